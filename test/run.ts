import { globSync, readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

/**
 * Runs the tests: `node test/run.ts [FILE|GLOB]...`, all of them by default. Exit status: 0 all passed, 1 otherwise.
 *
 * Many tests run real processes, sockets and media, and a machine that stands still for a while can fail one. Files that
 * failed run once more, alone, and the end of the output names those that passed only then: they are not steady, and have
 * to be mended. Files of properties get no second go: a counterexample that is found rarely is still one.
 */
/** Those that take long first, so that no long one is left over when all others are done. */
const EVERYTHING = ['test', 'node-agent', 'cli', 'coordinator', 'shared'].map((folder) => `${folder}/**/*.test.ts`);

/** As many files at a time as the smallest machine that the suite is meant for has processors. */
const AT_ONCE = 2;

/**
 * Where Node keeps what it has compiled. The tests start hundreds of processes of the product, each of which would compile
 * all of it anew: that takes as long as everything else that most of them do.
 */
const COMPILED = resolve(import.meta.dirname, '../.clipfarm/compiled');

/** Longest that one file may take, in milliseconds. */
const FILE_TIMEOUT_MILLIS = 900_000;

/** More files than this do not fail by chance. */
const MOST_SECOND_GOES = 4;

/** Runs test files and prints what comes of them; resolves to the paths of those that failed. */
async function failing(files: readonly string[], concurrency: number): Promise<string[]> {
  const failed = new Set<string>();
  const events = run({ files, concurrency, timeout: FILE_TIMEOUT_MILLIS });
  // What ends a file before its first test is reported under the file's name.
  events.on('test:fail', ({ file, name }) => failed.add(resolve(file ?? name)));
  for await (const text of events.compose(new spec())) process.stdout.write(text);
  return [...failed];
}

const isOfProperties = (file: string) => readFileSync(file, 'utf8').includes("from 'fast-check'");

const asked = process.argv.slice(2);
const patterns = asked.length > 0 ? asked : EVERYTHING;
const files = [
  ...new Set(
    patterns.flatMap((pattern) =>
      globSync(pattern)
        .sort()
        .map((file) => resolve(file)),
    ),
  ),
];
if (files.length === 0) {
  console.error(`error: no test file is named by ${asked.join(' ')}`);
  process.exit(1);
}
process.env.NODE_COMPILE_CACHE ??= COMPILED;
const failed = await failing(files, AT_ONCE);
const list = (paths: readonly string[]) => paths.map((path) => `  ${relative('', path)}\n`).join('');
if (failed.length > MOST_SECOND_GOES || failed.some(isOfProperties)) {
  process.exitCode = 1;
} else if (failed.length > 0) {
  console.log(`\nOnce more, alone:\n${list(failed)}`);
  const again = await failing(failed, 1);
  const unsteady = failed.filter((file) => !again.includes(file));
  if (unsteady.length > 0) console.log(`\nNot steady, passed only at the second go:\n${list(unsteady)}`);
  if (again.length > 0) process.exitCode = 1;
}
