import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { natsFor } from './nats-fixture.ts';

const unpacked = fileURLToPath(new URL('../../.clipfarm/tools/nats-server-2.9', import.meta.url));
const binary = process.env.CLIPFARM_OLD_NATS_SERVER || unpacked;
const skip = existsSync(binary) ? false : 'no NATS server 2.9; run: npm run test:old-nats';

const program = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** What a program of the product says, and its exit code. */
function run(main: string, args: readonly string[]): Promise<{ readonly code: number | null; readonly said: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [program(main), ...args], (_, out, err) => {
      resolve({ code: child.exitCode, said: out + err });
    });
  });
}

function startCoordinator(t: TestContext, url: string, ...more: readonly string[]) {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-old-nats-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const listen = ['--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--data-dir', dir];
  return run('coordinator/src/main.ts', [...listen, '--journal', url, ...more]);
}

test('on NATS 2.9 no coordinator starts, whatever it is allowed to risk, and it says what to run', {
  skip,
}, async (t) => {
  const nats = await natsFor(t, { binary, syncInterval: null });
  const [url = ''] = nats.urls;
  for (const more of [[], ['--nats-allow-unsafe']]) {
    const { code, said } = await startCoordinator(t, url, ...more);
    assert.match(said, /^error: NATS version: 2\.9\.\d+; it can't number the leaders' terms, nor keep acknowledged/m);
    assert.match(said, /^try: Run nats-server 2\.10\.23 or newer/m);
    assert.equal(code, 7);
  }
});

test('on NATS 2.9 the doctor says that no farm can be put there', { skip }, async (t) => {
  const nats = await natsFor(t, { binary, syncInterval: null });
  const { code, said } = await run('cli/src/main.ts', ['doctor', '--journal', nats.urls.join(',')]);
  assert.match(said, /failed {2}NATS server \S+ +\S+ 2\.9\.\d+; it can't number.*\n +try: Run nats-server 2\.10\.23/);
  assert.equal(code, 1);
});
