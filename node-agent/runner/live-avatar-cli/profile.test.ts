import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { modelRunnerProfile } from '../../src/model-runner-profile.ts';
import type { FromRunner } from '../../src/runner/protocol.ts';
import { RunnerProcess } from '../../src/runner/runner-process.ts';
import { makeInputs } from './testdata/rig.ts';

test('a profile of this kind starts the runner with what it says, and a span is rendered', async (t) => {
  const inputs = await makeInputs(t);
  const { host } = inputs;
  const source = {
    name: 'stock',
    runner: 'live-avatar-cli',
    dtype: 'fp8',
    compile: true,
    flags: { 'work-dir': inputs.workDir },
  };
  const profile = checkModelProfile({ ...source, env: { set: { STAND_IN_LOG: inputs.log } } }, 'profiles[0]', host);
  const gpu = {
    ...{
      index: 3,
      uuid: 'GPU-3',
      name: 'H100',
      pci: '',
      driver: '580',
      computeCapability: 9,
      memoryBytes: 80 * 2 ** 30,
    },
    ...{ memoryUsedBytes: 0, temperatureCelsius: 0, utilizationPercent: 0, throttleReasons: [], uncorrectedErrors: 0 },
  };
  const slot = { gpus: [gpu], memoryBytes: gpu.memoryBytes, hostMemoryBytes: 0 };
  const programs = { node: process.execPath, ffmpeg: 'ffmpeg', ffprobe: 'ffprobe', env: { PATH: process.env.PATH } };
  const { runner: start, capabilities, helloMillis } = modelRunnerProfile(profile, slot, programs);

  const over = Promise.withResolvers<FromRunner>();
  const loaded = Promise.withResolvers<void>();
  const runner = await RunnerProcess.start({
    ...start,
    socketDir: inputs.directory,
    helloTimeoutMs: helloMillis,
    onStderr: (line) => t.diagnostic(line),
    onMessage: async (message) => {
      if (message.type === 'loaded') loaded.resolve();
      if (message.type === 'spanEnded' || message.type === 'error') over.resolve(message);
    },
  });
  t.after(() => runner.kill());
  assert.deepEqual(runner.hello.capabilities, capabilities);
  await runner.send({ type: 'load' });
  await Promise.race([loaded.promise, over.promise.then((message) => assert.fail(JSON.stringify(message)))]);
  await runner.send({ type: 'render', request: { ...inputs.request, end: 1 } });
  assert.deepEqual(await over.promise, { type: 'spanEnded', leaseId: 'lease-1', reason: 'completed', end: 1 });
  const [started] = await inputs.starts();
  assert.ok(started?.args.includes('--fp8') && started.args.includes(`--lora_path_dmd=${host.lora}`));
  assert.deepEqual([started?.env?.CUDA_VISIBLE_DEVICES, started?.env?.ENABLE_COMPILE], ['3', 'true']);
});
