import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { runModelCall } from './model-call.ts';

test('a call that is over before its memory is measured waits for the figures', async (t) => {
  const path = temporaryDirectory(t);
  const { PATH } = process.env;
  t.after(() => {
    process.env.PATH = PATH;
  });
  process.env.PATH = `${path}:${PATH}`;
  writeFileSync(join(path, 'nvidia-smi'), '#!/bin/sh\nsleep 2\necho 2048\n', { mode: 0o755 });
  const figures = await runModelCall({
    commands: [{ rank: 0, command: 'true', args: [], env: { PATH: PATH ?? '' } }],
    span: { start: 0, end: 1, preRoll: 0, prompt: '' },
    folder: { path, limitBytes: 2 ** 20 },
    patience: 1,
    devices: '0',
    onShare: async () => {},
    signal: new AbortController().signal,
  });
  assert.equal(figures.peakMemoryBytes, 2 ** 31);
});
