import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from './testing/fake-coordinator.ts';
import { scene } from './testing/scene.ts';

const SYNTHETIC = fileURLToPath(new URL('../runner/synthetic/main.ts', import.meta.url));

const gpu = (index: number) =>
  `${index}, GPU-${index}, NVIDIA H100, 00000000:0${index}:00.0, 570.1, 81559, 4, 9.0, 40, 7, 0, 0x0000000000000000`;

test('slots are formed from the GPUs, render, tell what their runner is, and leave with a GPU that is lost', async (t) => {
  const { coordinator, stateDir, task, startWith } = await scene(t);
  const bin = join(stateDir, 'bin');
  mkdirSync(bin);
  const program = (name: string, script: string) => {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  };
  const listed = join(stateDir, 'listed');
  // In one step: the agent may look at any moment.
  const list = (...gpus: readonly number[]) => {
    writeFileSync(`${listed}.new`, gpus.map((index) => `${gpu(index)}\n`).join(''));
    renameSync(`${listed}.new`, listed);
  };
  list(0, 1);
  program('nvidia-smi', `cat ${listed}`);
  // In place of Python and the model: the synthetic runner.
  program(
    'python3',
    `for last; do :; done\nexec ${process.execPath} ${SYNTHETIC} --seconds-per-clip 2 --socket "$last"`,
  );
  const profiles = join(stateDir, 'profiles.yaml');
  const paths = 'checkout: /opt/LiveAvatar, ckpt_dir: /data/Wan';
  writeFileSync(profiles, `profiles: [{ name: own, runner: live-avatar, ${paths}, host_memory_gib: 64, dtype: fp8 }]`);
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const flags = ['--profiles', profiles, '--profile', 'own', '--admin', '127.0.0.1:0'];
  const agent = startWith(env, ...flags);
  await until(() => coordinator.attached, 'the agent attaches');

  const [hello] = coordinator.hellos;
  assert.partialDeepStrictEqual(hello?.gpus, [
    { index: 0, name: 'NVIDIA H100', computeCapability: '9.0' },
    { index: 1 },
  ]);
  assert.partialDeepStrictEqual(hello?.slots, [
    { slotId: 'slot-1', profile: 'own', runnerKind: 'live-avatar', dtype: 'fp8', gpus: [0], warmUpSeconds: 15 },
    { slotId: 'slot-2', gpus: [1], memoryBytes: (81_559 - 4) * 2 ** 20 },
  ]);
  coordinator.grant({ leaseId: 'one', start: 0, end: 1, task });
  await until(() => coordinator.ended('one') !== undefined, 'the lease ends');
  assert.equal(coordinator.ended('one')?.reason, 'LEASE_END_REASON_COMPLETED');
  assert.equal(coordinator.slot()?.runnerVersions.node, process.versions.node);

  coordinator.grant({ leaseId: 'long', slotId: 'slot-2', start: 0, end: 12, task });
  list(0);
  await until(() => coordinator.state('slot-2') === 'SLOT_STATE_RECOVERING', 'the slot of the lost GPU is out');
  await until(() => coordinator.ended('long') !== undefined, 'its lease ends');
  assert.equal(coordinator.ended('long')?.failureClass, 'FAILURE_CLASS_DEVICE');
  const beats = () => coordinator.said.flatMap((sent) => (sent.$case === 'heartbeat' ? [sent.value.gpus] : []));
  const trouble = 'GPU 1 is gone: the driver no longer lists it';
  await until(() => beats().some((gpus) => gpus[1]?.trouble === trouble), 'the lost GPU is told of');
  assert.equal(coordinator.state('slot-1'), 'SLOT_STATE_IDLE');
  coordinator.grant({ leaseId: 'refused', slotId: 'slot-2', start: 0, end: 1, task });
  await until(() => coordinator.ended('refused') !== undefined, 'a lease on it is refused');
  assert.match(coordinator.ended('refused')?.message ?? '', /GPU 1 is gone/);
  const admin = /"admin":"([^"]+)"/.exec(agent.lines('"agent runs"')[0] ?? '')?.[1];
  const metrics = await (await fetch(`http://${admin}/metrics`)).text();
  assert.match(metrics, /^clipfarm_agent_gpu_usable\{gpu="0"\} 1$/m);
  assert.match(metrics, /^clipfarm_agent_gpu_usable\{gpu="1"\} 0$/m);

  list(0, 1);
  await until(() => coordinator.state('slot-2') === 'SLOT_STATE_IDLE', 'the slot is back with its GPU');
});

test('an agent whose host can not run the profile says why and does not start', async (t) => {
  const { coordinator, startWith } = await scene(t);
  const paths = ['--checkout', '/opt/LiveAvatar', '--ckpt-dir', '/data/Wan', '--python', process.execPath];
  for (const [profile, message] of [
    ['pipe-4x24g', /error: --profile: "pipe-4x24g": has no runner in this version: nothing splits the model/],
    ['single-80g', /error: profile single-80g can't run here: 1 slots of 1 GPUs each need 1, 0 of this host's 0/],
  ] as const) {
    const env = { PATH: `/nowhere:${process.env.PATH}` };
    const agent = startWith(env, '--profile', profile, ...paths);
    assert.equal((await agent.exited).code, 7, agent.output);
    assert.match(agent.output, message);
  }
  assert.equal(coordinator.attached, false);
});
