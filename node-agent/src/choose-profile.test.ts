import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { chooseProfile, slotProfiles, visibleGpus } from './choose-profile.ts';
import { agentConfigFromArgs } from './config.ts';
import { testGpu } from './gpu/testdata.ts';
import { LoadGate } from './load-gate.ts';

const where = ['--checkout', '/opt/LiveAvatar', '--ckpt-dir', '/data/Wan', '--python', process.execPath] as const;
const env = { PATH: '/bin', PYTHONPATH: '/mine', CLIPFARM_TOKEN: 'secret', NCCL_IB_DISABLE: '1', OTHER: 'x' };
const host = {
  gpus: [testGpu(0), testGpu(1)],
  memoryBytes: 256 * GIB,
  programs: { node: '/node', ffmpeg: '/ffmpeg', ffprobe: '/ffprobe', env },
};

async function slotsFor(...argv: readonly string[]) {
  const config = agentConfigFromArgs(argv, { env: {}, hostName: 'h', homeDir: '/home' });
  assert.ok(config !== null);
  return slotProfiles(await chooseProfile(config, { PATH: dirname(process.execPath) }), config, host);
}

/** A file with one profile. */
function fileWith(t: TestContext, text: string): string {
  const path = join(temporaryDirectory(t), 'profiles.yaml');
  writeFileSync(path, `profiles:\n  - ${text}\n`);
  return path;
}

test('a built-in profile starts the Python runner on one GPU a slot, with an environment that has no secrets', async () => {
  const slots = await slotsFor('--profile', 'single-80g', '--lora', '/data/lora.safetensors', '--compile', ...where);
  assert.equal(slots.length, 2);
  const [, second] = slots;
  assert.equal(second?.runner.command, process.execPath);
  assert.deepEqual(second?.runner.args, [
    ...['-m', 'live_avatar', '--checkout', '/opt/LiveAvatar', '--ckpt-dir', '/data/Wan'],
    ...['--lora', '/data/lora.safetensors', '--dtype', 'fp8', '--compile'],
  ]);
  const { PYTHONPATH, ...environment } = second?.runner.env ?? {};
  assert.match(PYTHONPATH ?? '', /node-agent\/runner:\/mine$/);
  assert.deepEqual(environment, {
    ...{ PATH: '/bin', CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: '1', PYTHONUNBUFFERED: '1' },
  });
  assert.partialDeepStrictEqual(second?.slot, {
    ...{ profile: 'single-80g', runnerKind: 'live-avatar', dtype: 'fp8', compiled: true, gpus: [1] },
    ...{ memoryBytes: 79.6 * GIB, warmUpSeconds: 150 },
  });
  assert.deepEqual(second?.capabilities, { setEnd: true, continues: true });
});

test("an operator's profile sets arguments and variables, and upstream's script is run by Node", async (t) => {
  const file = fileWith(
    t,
    `{ name: script, runner: live-avatar-cli, lora: /l.safetensors, dtype: fp8, flags: { t5-cpu: true, patience: 2, off: false },
       env: { pass: [NCCL_IB_DISABLE, ABSENT], set: { A: "1" } } }`,
  );
  const [slot] = await slotsFor('--profiles', file, '--profile', 'script', '--gpus', '0', ...where);
  assert.equal(slot?.runner.command, '/node');
  assert.match(slot?.runner.args[0] ?? '', /node-agent\/runner\/live-avatar-cli\/main\.ts$/);
  assert.deepEqual(slot?.runner.args.slice(1), [
    ...['--python', process.execPath, '--checkout', '/opt/LiveAvatar', '--ckpt-dir', '/data/Wan'],
    ...[
      '--lora',
      '/l.safetensors',
      '--ffmpeg',
      '/ffmpeg',
      '--ffprobe',
      '/ffprobe',
      '--fp8',
      '--t5-cpu',
      '--patience',
      '2',
    ],
  ]);
  assert.deepEqual(slot?.capabilities, { setEnd: false, continues: false });
  assert.partialDeepStrictEqual(slot?.runner.env, { A: '1', NCCL_IB_DISABLE: '1', CUDA_VISIBLE_DEVICES: '0' });
  assert.ok(slot?.runner.env.CLIPFARM_TOKEN === undefined && slot?.runner.env.PYTHONPATH === undefined);
});

test('an own synthetic profile needs no GPU and declares what the flags say', async (t) => {
  const file = fileWith(
    t,
    '{ name: pretend, runner: synthetic, flags: { seconds-per-clip: 0.5, memory-gib: 48, drift: 2 } }',
  );
  const slots = await slotsFor('--profiles', file, '--profile', 'pretend', '--slots', '3');
  assert.equal(slots.length, 3);
  assert.partialDeepStrictEqual(slots[0]?.slot, { profile: 'pretend', runnerKind: 'synthetic', memoryBytes: 48 * GIB });
  assert.deepEqual(slots[0]?.runner.args.slice(1), [
    ...['--seconds-per-clip', '0.5', '--warm-up-seconds', '0', '--load-seconds', '0', '--memory-gib', '48'],
    ...['--drift', '2'],
  ]);
});

test('a model stays loaded unless the profile, or else the command line, says for how long it may be idle', async (t) => {
  const millis = async (...argv: readonly string[]) => (await slotsFor(...argv))[0]?.unloadIdleMillis;
  const flag = ['--unload-idle-minutes', '1.5'];
  assert.equal(await millis('--profile', 'synthetic'), null);
  assert.equal(await millis('--profile', 'synthetic', ...flag), 90_000);
  assert.equal(await millis('--profile', 'single-80g', ...where), null);
  assert.equal(await millis('--profile', 'single-80g', ...where, ...flag), 90_000);
  for (const runner of ['synthetic', 'live-avatar']) {
    const open = fileWith(t, `{ name: own, runner: ${runner} }`);
    assert.equal(await millis('--profiles', open, '--profile', 'own', ...where, ...flag), 90_000);
    const own = fileWith(t, `{ name: own, runner: ${runner}, unload_idle_minutes: 30 }`);
    assert.equal(await millis('--profiles', own, '--profile', 'own', ...where, ...flag), 1_800_000);
  }
  const script = fileWith(t, '{ name: own, runner: live-avatar-cli, lora: /l }');
  await assert.rejects(slotsFor('--profiles', script, '--profile', 'own', ...where, ...flag), {
    message: /--unload-idle-minutes: has no effect with runner live-avatar-cli/,
  });
});

test('what can not run is refused before anything starts', async (t) => {
  const file = fileWith(t, '{ name: pretend, runner: synthetic, flags: { memory-gib: much } }');
  for (const [argv, message] of [
    [
      ['--profile', 'pipe-4x24g', ...where],
      /"pipe-4x24g": has no runner .* splits the model over cards.*; there is: single-80g, single-48g-fp8, tpp-5x80g, synthetic$/,
    ],
    [['--profile', 'single-80g'], /^--checkout: is missing; accepted: an absolute path$/],
    [['--profiles', file, '--profile', 'other'], /--profile: "other": is not known; there is: .*synthetic, pretend/],
    [['--profiles', file, '--profile', 'pretend'], /flags\.memory-gib: "much": accepted: a number/],
    [['--profile', 'single-80g', ...where, '--python', 'no-python'], /--python: "no-python": there is no such program/],
    [['--profile', 'tpp-5x80g', ...where], /5 GPUs each need 5, 2 of this host's 2/],
  ] as const) {
    await assert.rejects(slotsFor(...argv), { message }, argv.join(' '));
  }
});

test("an agent that was given some GPUs by CUDA's variable offers no others", () => {
  const found = [testGpu(0), testGpu(1), testGpu(2)];
  const indices = (variable: string | undefined) => visibleGpus(found, variable).map(({ index }) => index);
  assert.deepEqual(indices(undefined), [0, 1, 2]);
  assert.deepEqual(indices('2,0'), [2, 0]);
  assert.deepEqual(indices('GPU-1, 0'), [1, 0]);
  assert.deepEqual(indices('0,7,1'), [0]);
  assert.deepEqual(indices('1,1'), [1]);
  for (const none of ['', '-1', 'none']) assert.deepEqual(indices(none), []);
});

test('slots load one after the other where the host could not hold all of them loading', async () => {
  const slots = await slotsFor('--profile', 'single-80g', ...where);
  const tight = slots.map((slot) => ({ ...slot, slot: { ...slot.slot, hostMemoryBytes: 19 * GIB } }));
  const entered = async (gate: LoadGate) => {
    const leave = await gate.enter();
    const second = gate.enter();
    const waits = await Promise.race([second.then(() => false), new Promise((resolve) => setImmediate(resolve, true))]);
    leave();
    leave();
    (await second)();
    (await gate.enter())();
    return waits;
  };
  assert.equal(await entered(new LoadGate(tight)), true);
  assert.equal(await entered(new LoadGate(slots)), false);
  assert.equal(await entered(new LoadGate([])), false);
});
