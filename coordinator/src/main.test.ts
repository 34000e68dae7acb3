import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

test('a coordinator makes nothing that other users can read, also in a directory that they can look into', async (t) => {
  const dataDir = temporaryDirectory(t);
  chmodSync(dataDir, 0o755);
  const ready = join(dataDir, 'ready');
  const flags = ['--data-dir', dataDir, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--ready-file', ready];
  const child = spawn(process.execPath, [MAIN, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  const said = text(child.stderr);
  while (!existsSync(ready)) {
    assert.equal(child.exitCode, null, 'it starts');
    await sleep(20);
  }
  const made = readdirSync(dataDir, { recursive: true, encoding: 'utf8' });
  assert.ok(made.length > 3, made.join());
  // Some are there for a moment only.
  const modeOf = (name: string) => statSync(join(dataDir, name), { throwIfNoEntry: false })?.mode ?? 0;
  for (const name of made) assert.equal(modeOf(name) & 0o077, 0, name);
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  assert.match(await said, /"level":40,[^\n]*"msg":"other users of this host can look into/);
});
