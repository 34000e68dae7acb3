import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import { holds, tableOf, type Verdict } from './verdict.ts';

/** The oldest that a farm accepts, and of each later line the last one that was tried. */
const VERSIONS = ['2.10.23', '2.11.17', '2.12.15', '2.14.10', '2.15.3'];

const USAGE = `Runs every test that needs NATS against several versions of its server.

  npm run test:nats-versions -- [VERSION|FILE ...]

VERSION  such as 2.12.15; built with Go, which must be there, and kept in .clipfarm/tools
         (default ${VERSIONS.join(' ')}, about three minutes each on two cores)
FILE     a nats-server of yours, with a / in its name
Exit status: 0 everything holds, 1 something failed or a server is missing.
`;

/** As for all tests. */
const TIMEOUT_MILLIS = 900_000;

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The tests that start the server which CLIPFARM_NATS_SERVER names. */
function testsOnNats(): string[] {
  const files = globSync('test/{journal,e2e}/*.test.ts', { cwd: root }).sort();
  return files
    .map((file) => resolve(root, file))
    .filter((file) => {
      const text = readFileSync(file, 'utf8');
      return /harness\/nats\.ts|nats-fixture\.ts/.test(text) && !text.includes('CLIPFARM_OLD_NATS_SERVER');
    });
}

/** The file of a server. @throws FarmError `unavailable` when it can't be had */
async function fileOf(server: string): Promise<string> {
  if (server.includes('/')) return resolve(server);
  try {
    const { stdout, stderr } = await promisify(execFile)('sh', ['deploy/setup-nats-version.sh', server], { cwd: root });
    process.stderr.write(stderr);
    return stdout.trim();
  } catch (error) {
    const told = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    console.error(told);
    throw new FarmError('unavailable', /^error: [^:]*: (.*)$/m.exec(told)?.[1] ?? told);
  }
}

async function runOn(server: string): Promise<Verdict> {
  const nothing = { server, missing: null, passed: 0, skipped: 0, failed: [], seconds: 0 };
  try {
    process.env.CLIPFARM_NATS_SERVER = await fileOf(server);
  } catch (error) {
    return { ...nothing, missing: FarmError.from(error).message };
  }
  console.log(`\nnats-server ${server}`);
  const failed: string[] = [];
  let counts = { passed: 0, skipped: 0 };
  const started = performance.now();
  const tests = run({ files: testsOnNats(), concurrency: 1, timeout: TIMEOUT_MILLIS });
  // Where a test within another fails, the outer one only repeats it.
  tests.on('test:fail', ({ name, details }) => {
    if (!('failureType' in details.error) || details.error.failureType !== 'subtestsFailed') failed.push(name);
  });
  tests.on('test:summary', (summary) => {
    if (summary.file === undefined) counts = summary.counts;
  });
  for await (const line of tests.compose(new spec())) process.stdout.write(line);
  const { passed, skipped } = counts;
  return { server, missing: null, passed, skipped, failed, seconds: (performance.now() - started) / 1000 };
}

async function main(): Promise<boolean> {
  const { values, positionals } = parseArgs({
    options: { help: { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(USAGE);
    return true;
  }
  const servers = positionals.length === 0 ? VERSIONS : positionals.map((name) => name.replace(/^v(?=\d)/, ''));
  for (const server of servers) {
    if (server.includes('/') || /^\d+\.\d+\.\d+(-[\w.]+)?$/.test(server)) continue;
    const accepted = 'accepted are versions such as 2.12.15, and files with a / in their names';
    throw new FarmError('invalid_argument', `server: ${JSON.stringify(server)}; ${accepted}`);
  }
  const verdicts: Verdict[] = [];
  for (const server of servers) verdicts.push(await runOn(server));
  console.log(`\n${tableOf(verdicts)}`);
  return verdicts.every(holds);
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  const known = error instanceof FarmError;
  console.error(known ? `error: ${error.message}` : error);
  process.exitCode = known ? exitCodeOf(error.code) : 1;
}
