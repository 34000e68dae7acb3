import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isRunning } from './runner/testdata/processes.ts';
import type { AgentProcess } from './testing/agent-process.ts';
import { type FakeCoordinator, until } from './testing/fake-coordinator.ts';
import { scene } from './testing/scene.ts';

const SYNTHETIC = fileURLToPath(new URL('../runner/synthetic/main.ts', import.meta.url));

/** Why a slot says that it takes no work, or begins it later. */
function reason({ said }: FakeCoordinator, slotId = 'slot-1'): string | undefined {
  const heartbeat = said.findLast((sent) => sent.$case === 'heartbeat');
  return heartbeat?.value.slots.find((slot) => slot.slotId === slotId)?.stateReason;
}

/** A metric of an agent that serves them, by its line's beginning. */
async function metric(agent: AgentProcess, name: string): Promise<string | undefined> {
  const admin = /"admin":"([^"]+)"/.exec(agent.lines('"agent runs"')[0] ?? '')?.[1];
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  return text
    .split('\n')
    .find((line) => line.startsWith(`${name} `))
    ?.slice(name.length + 1);
}

/** Process ids of the runners in an agent's log lines of that text. */
function pids(agent: AgentProcess, text: string): readonly number[] {
  return agent.lines(text).map((line) => Number(/"runner_pid":(\d+)/.exec(line)?.[1]));
}

describe('the model of a slot', { concurrency: true }, () => {
  test('a slot that is idle for long enough unloads its model, says so, and loads it for the next lease', async (t) => {
    const { coordinator, task, start } = await scene(t);
    const flags = ['--warm-up-seconds', '2', '--load-seconds', '0.5', '--unload-idle-minutes', '0.1'];
    const agent = start(...flags, '--admin', '127.0.0.1:0');
    const unloaded = 'the model is unloaded (no lease for 0.1 min); the next lease loads it';
    await until(() => reason(coordinator) === unloaded, 'the model is unloaded');
    assert.equal(coordinator.state(), 'SLOT_STATE_IDLE', 'it takes work all the same');
    await until(() => (coordinator.slot()?.warmUpSeconds ?? 0) >= 2.5, 'its next lease is said to begin later');
    await until(() => agent.lines('"the model is unloaded"').length === 1, 'the log says so');
    assert.match(agent.lines('"the model is unloaded"')[0] ?? '', /"held_bytes":0/);
    assert.equal(await metric(agent, 'clipfarm_agent_models_unloaded_total{outcome="given_back"}'), '1');
    assert.equal(await metric(agent, 'clipfarm_agent_slots{state="unloaded"}'), '1');

    coordinator.grant({ leaseId: 'one', start: 0, end: 1, task });
    await until(() => coordinator.ended('one') !== undefined, 'the lease ends');
    assert.equal(coordinator.ended('one')?.reason, 'LEASE_END_REASON_COMPLETED');
    await until(() => agent.lines('"runner is loaded"').length === 2, 'it was loaded again');
    const [first, second] = pids(agent, '"runner is loaded"');
    assert.equal(first, second, 'the process went on');
    const warmUps = () =>
      coordinator.said.flatMap((sent) => (sent.$case === 'slotChanged' ? (sent.value.slot?.warmUpSeconds ?? []) : []));
    const isWarmAgain = () => warmUps().lastIndexOf(2) > warmUps().findIndex((seconds) => seconds > 2);
    await until(isWarmAgain, 'it is told that the model is warm again');
    await until(() => agent.lines('"the model is unloaded"').length === 2, 'it is unloaded again');
  });

  test('SIGUSR2 unloads the models of the slots without a lease, and of no others', async (t) => {
    const { coordinator, task, start } = await scene(t);
    // A lease whose chunks nobody judges does not end.
    coordinator.judge = () => null;
    const agent = start('--slots', '2');
    const idle = (slotId: string) =>
      coordinator.state(slotId) === 'SLOT_STATE_IDLE' && reason(coordinator, slotId) === '';
    await until(() => idle('slot-1') && idle('slot-2'), 'both are loaded');
    coordinator.grant({ leaseId: 'one', start: 0, end: 1, task });
    await until(() => coordinator.offers.length === 1, 'a clip is rendered');
    agent.child.kill('SIGUSR2');
    const unloaded = 'the model is unloaded (the agent got SIGUSR2); the next lease loads it';
    await until(() => reason(coordinator, 'slot-2') === unloaded, 'the idle slot is unloaded');
    await until(
      () =>
        agent.lines('"slots_unloading":["slot-2"],"slots_left_as_they_are":["slot-1: it has a lease"]').length === 1,
      'the log says which was left alone, and why',
    );
    assert.equal(reason(coordinator, 'slot-1'), '');
    coordinator.commitAll();
    await until(() => coordinator.ended('one') !== undefined, 'the lease ends');
    coordinator.grant({ leaseId: 'two', slotId: 'slot-2', start: 1, end: 2, preRoll: 1, task });
    await until(() => coordinator.ended('two')?.reason === 'LEASE_END_REASON_COMPLETED', 'the other renders again');
  });

  test('a model whose memory the driver still counts is ended with its runner, and the next lease gets a new one', async (t) => {
    const { coordinator, stateDir, task, startWith } = await scene(t);
    const program = (name: string, script: string) =>
      writeFileSync(join(stateDir, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const pid = join(stateDir, 'pid');
    const card = '0, GPU-0, NVIDIA H100, 00000000:01:00.0, 570.1, 81559, 4, 9.0, 40, 7, 0, 0x0000000000000000';
    program(
      'nvidia-smi',
      `case "$1" in --query-compute-apps=*) echo "GPU-0, $(cat ${pid}), 16384";; *) echo '${card}';; esac`,
    );
    // In place of Python and the model: the synthetic runner, which claims to have given everything back.
    program(
      'python3',
      `echo $$ > ${pid}\nfor last; do :; done\nexec ${process.execPath} ${SYNTHETIC} --socket "$last"`,
    );
    const profiles = join(stateDir, 'profiles.yaml');
    const paths = 'checkout: /opt/LiveAvatar, ckpt_dir: /data/Wan';
    writeFileSync(
      profiles,
      `profiles: [{ name: own, runner: live-avatar, ${paths}, host_memory_gib: 64, dtype: fp8 }]`,
    );
    const flags = ['--profiles', profiles, '--profile', 'own', '--admin', '127.0.0.1:0'];
    const agent = startWith({ PATH: `${stateDir}:${process.env.PATH}` }, ...flags);
    await until(() => coordinator.state() === 'SLOT_STATE_IDLE', 'the model is loaded');
    const before = Number(readFileSync(pid, 'utf8'));
    agent.child.kill('SIGUSR2');
    const told = '"the model is not unloaded: the runner is ended, which gives its memory back"';
    await until(() => agent.lines(told).length === 1, 'the log says that the memory is not back');
    assert.match(
      agent.lines(told)[0] ?? '',
      /"problem":"the driver still accounts 16\.0 GiB to it, though it says 0\.0"/,
    );
    await until(() => !isRunning(before), 'the runner is gone');
    assert.equal(coordinator.state(), 'SLOT_STATE_IDLE');
    coordinator.grant({ leaseId: 'one', start: 0, end: 1, task });
    await until(() => coordinator.ended('one') !== undefined, 'the lease ends');
    assert.equal(coordinator.ended('one')?.reason, 'LEASE_END_REASON_COMPLETED');
    assert.notEqual(Number(readFileSync(pid, 'utf8')), before);
    assert.equal(await metric(agent, 'clipfarm_agent_models_unloaded_total{outcome="ended"}'), '1');
  });
});
