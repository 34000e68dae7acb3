import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CHECKOUT, makeInputs, PYTHON, STAND_IN } from '../../node-agent/runner/live_avatar/testdata/harness.ts';

const PRODUCT = fileURLToPath(new URL('../gpu/product.ts', import.meta.url));

test('the farm finishes a talk with the Live Avatar runner, killed in the middle, as on a GPU host', async (t) => {
  const { directory, checkpoint } = await makeInputs(t);
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  const program = (name: string, script: string): string => {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
    return join(bin, name);
  };
  // The GPU and the model are stood in for; everything between them and the finished file is the product's.
  const gpu = '0, GPU-0, NVIDIA H200, 00000000:00:00.0, 580.159, 143771, 4, 9.0, 40, 7, 0, 0x0000000000000000';
  program('nvidia-smi', `echo '${gpu}'`);
  const python = program(
    'model-python',
    `PYTHONPATH="$PYTHONPATH:${STAND_IN}" PYTHONDONTWRITEBYTECODE=1 exec ${PYTHON} "$@"`,
  );
  const profiles = join(directory, 'profiles.yaml');
  const paths = `checkout: ${CHECKOUT}, ckpt_dir: ${checkpoint}`;
  writeFileSync(profiles, `profiles: [{ name: own, runner: live-avatar, ${paths}, host_memory_gib: 64, dtype: bf16 }]`);
  const results = join(directory, 'results.json');
  const lora = join(directory, 'lora.safetensors');
  const args = ['--checkout', CHECKOUT, '--ckpt-dir', checkpoint, '--lora', lora, '--python', python];
  const choice = ['--profile', 'own', '--seconds', '20', '--results', results, '--', '--profiles', profiles];
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
  await promisify(execFile)(process.execPath, [PRODUCT, ...args, ...choice], { env });
  const report = JSON.parse(readFileSync(results, 'utf8')) as Record<string, unknown>;
  assert.equal(report.passed, true, JSON.stringify(report, null, 2));
  assert.partialDeepStrictEqual(report, {
    promisedFrames: 500,
    result: { state: 'JOB_STATE_COMPLETED', clips: 11 },
    failures: [{ failureClass: 'crash', message: 'the runner ended with signal SIGKILL' }],
    soundLagSamples: [{ lag: 0 }, { lag: 0 }, { lag: 0 }],
  });
});
