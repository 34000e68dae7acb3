import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { OwnDirectory } from './harness/owner.ts';

const PASSES = `import { test } from 'node:test';
test('passes', () => {});
`;
const FAILS = `import { test } from 'node:test';
test('passes', () => {});
test('fails', () => { throw new Error('always'); });
`;
const DIES = `process.exit(7);
`;
/** Fails where it has not run before. */
const UNSTEADY = `import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
const mark = import.meta.filename + '.ran';
const ran = existsSync(mark);
writeFileSync(mark, '');
test('fails at first', () => { if (!ran) throw new Error('not yet'); });
`;
const UNSTEADY_PROPERTY = `// import fc from 'fast-check';
${UNSTEADY}`;

/** Runs tests of these texts as a user would: their exit status and what is printed. */
async function running(...texts: string[]): Promise<{ status: unknown; output: string }> {
  using dir = new OwnDirectory();
  const files = texts.map((text, index) => {
    const file = join(dir.path, `file-${index}.test.mjs`);
    writeFileSync(file, text);
    return file;
  });
  return await runTests(files);
}

async function runTests(files: readonly string[]): Promise<{ status: unknown; output: string }> {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  return new Promise((resolve) => {
    execFile(process.execPath, [join(import.meta.dirname, 'run.ts'), ...files], { env }, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : error.code, output: stdout + stderr }),
    );
  });
}

test('what passes runs once', async () => {
  const { status, output } = await running(PASSES, PASSES);
  assert.equal(status, 0);
  assert.match(output, /tests 2\n/);
  assert.doesNotMatch(output, /Once more/);
});

test('what fails runs once more, and fails', async () => {
  const { status, output } = await running(PASSES, FAILS);
  assert.equal(status, 1);
  assert.match(output, /Once more, alone:\n.*file-1\.test\.mjs\n/);
  assert.doesNotMatch(output, /Once more, alone:\n.*file-0|Not steady/);
});

test('so does a file that ends before its tests', async () => {
  const { status, output } = await running(DIES);
  assert.equal(status, 1);
  assert.match(output, /Once more, alone:\n.*file-0\.test\.mjs\n/);
});

test('what passes at the second go is named', async () => {
  const { status, output } = await running(UNSTEADY, PASSES);
  assert.equal(status, 0);
  assert.match(output, /Not steady, passed only at the second go:\n.*file-0\.test\.mjs\n/);
});

test('a property gets no second go', async () => {
  const { status, output } = await running(UNSTEADY_PROPERTY);
  assert.equal(status, 1);
  assert.match(output, /fail 1\n/);
  assert.doesNotMatch(output, /Once more/);
});

test('many files that fail get no second go', async () => {
  const { status, output } = await running(...Array.from({ length: 5 }, () => UNSTEADY));
  assert.equal(status, 1);
  assert.match(output, /fail 5\n/);
  assert.doesNotMatch(output, /Once more/);
});

test('a pattern that names no file is an error', async () => {
  const { status, output } = await runTests(['nothing/*.test.ts']);
  assert.equal(status, 1);
  assert.equal(output, 'error: no test file is named by nothing/*.test.ts\n');
});
