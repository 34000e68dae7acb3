import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { type CallFigures, runModelCall } from './model-call.ts';

/** Runs a shell script in place of upstream's, where `nvidia-smi` is a script, too; both run in a folder of their own. */
async function run(t: TestContext, script: string, nvidiaSmi: string): Promise<CallFigures> {
  const path = temporaryDirectory(t);
  const { PATH } = process.env;
  writeFileSync(join(path, 'nvidia-smi'), `#!/bin/sh\ncd ${path}\n${nvidiaSmi}\n`, { mode: 0o755 });
  process.env.PATH = `${path}:${PATH}`;
  try {
    return await runModelCall({
      commands: [{ rank: 0, command: 'sh', args: ['-c', script], env: { PATH: PATH ?? '' } }],
      span: { start: 0, end: 1, preRoll: 0, prompt: '' },
      folder: { path, limitBytes: 2 ** 20 },
      patience: 1,
      devices: '0,1',
      onShare: async () => {},
      signal: new AbortController().signal,
    });
  } finally {
    process.env.PATH = PATH;
  }
}

/** For `nvidia-smi`: the cards at the first question, and later. */
const cards = (before: string, later: string) =>
  `case "$1" in --query-gpu=*) if [ -e seen ]; then ${later}; else : > seen; ${before}; fi;; esac`;

test('a call that is over before its memory is measured waits for the figures', async (t) => {
  const { gpu } = await run(t, 'true', cards('echo 0; echo 0', 'sleep 1; echo 2048; echo 0'));
  assert.deepEqual(gpu, { bytes: 2 ** 31, basis: 'cards', beforeBytes: 0 });
});

test('GPU memory is what the driver accounts to the processes of the call, whatever others use', async (t) => {
  // The process is on both GPUs, and stays until the second look; another one is beside it.
  const listed = `if [ -e looked ]; then : > go; fi
    if [ -e pid ]; then : > looked; echo "A, $(cat pid), 3072"; echo "B, $(cat pid), 1024"; echo "B, 1, 9999"; fi`;
  const script = 'echo $$ > new; mv new pid; while [ ! -e go ]; do sleep 0.05; done';
  const { gpu } = await run(t, script, `case "$1" in --query-compute*) ${listed};; *) echo 70000; echo 10;; esac`);
  assert.deepEqual(gpu, { bytes: 3 * 2 ** 30, basis: 'processes', beforeBytes: 70_000 * 2 ** 20 });
});

test('where the driver lists none of them, it is what came to be in use on a card since before the start', async (t) => {
  const { gpu } = await run(t, 'true', cards('echo 5120; echo 1024', 'echo 6144; echo 4096'));
  assert.deepEqual(gpu, { bytes: 3 * 2 ** 30, basis: 'cards', beforeBytes: 5 * 2 ** 30 });
  // What another program gave back meanwhile is no memory of the call.
  const less = await run(t, 'true', cards('echo 5120; echo 1024', 'echo 4096; echo 1024'));
  assert.equal(less.gpu.bytes, 0);
});

test('without nvidia-smi nothing is known', async (t) => {
  const { gpu } = await run(t, 'true', 'exit 127');
  assert.equal(gpu.bytes, 0);
});
