import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';

const demo = fileURLToPath(new URL('./demo.ts', import.meta.url));

/** Runs the demo with its temporary files in a directory of the test's own. */
function start(t: TestContext) {
  const TMPDIR = temporaryDirectory(t);
  const child = spawn(process.execPath, [demo], { env: { ...process.env, TMPDIR }, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const said = { out: '', err: '' };
  child.stdout.on('data', (part) => (said.out += String(part)));
  child.stderr.on('data', (part) => (said.err += String(part)));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, said, ended };
}

test('the demo renders the sample and leaves nothing but the video that it names', async (t) => {
  const { said, ended } = start(t);
  assert.equal(await ended, 0, said.err);
  assert.match(said.out, /^completed {2}talk/m);
  assert.doesNotMatch(said.out, /kept until/, 'its farm is gone');
  const video = /^The video: {2}(.+)$/m.exec(said.out)?.[1] ?? assert.fail(said.out);
  assert.deepEqual(readdirSync(dirname(video)), ['talk.mp4']);
});

test('a demo that is interrupted keeps what it has, and says how to go on and how to delete it', async (t) => {
  const { child, said, ended } = start(t);
  let interrupted = false;
  child.stderr.on('data', () => {
    // A second signal would end it at once.
    if (!interrupted && said.err.includes('rendering')) interrupted = child.kill('SIGINT');
  });
  assert.equal(await ended, 130);
  const dataDir = /clipfarm up --data-dir (.+)$/m.exec(said.out)?.[1] ?? assert.fail(said.out);
  assert.ok(readdirSync(dataDir).includes('coordinator'));
  assert.match(said.out, new RegExp(`rm -r ${dirname(dataDir)}$`, 'm'));
});
