import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { createLogger } from '@clipfarm/shared/log';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { coordinatorConfig } from '../../coordinator/src/config.ts';
import { startCoordinator } from '../../coordinator/src/coordinator.ts';
import { Farm, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { OwnDirectory } from '../harness/owner.ts';
import { freePorts } from '../harness/ports.ts';
import type { TestProcess } from '../harness/process.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { FreezableClock } from '../journal/freezable-clock.ts';

/** A coordinator in this process whose time can stand still, as in the moment after a process was stopped and continued. */
async function startFreezable(args: readonly string[]) {
  const clock = new FreezableClock();
  const config = coordinatorConfig(args, {}) ?? assert.fail('no configuration');
  const running = await startCoordinator(config, createLogger({ name: 'test', level: 'silent' }), clock);
  const { address, credentials, options } = clientChannel({ address: running.listen });
  const client = new FarmServiceClient(address, credentials, options);
  const leads = () => callUnary(client, client.listNodes, { knowsLeft: true, pageToken: '' }).catch(() => null);
  const close = async () => {
    client.close();
    clock.thaw();
    await running.close();
  };
  return { clock, client, leads, [Symbol.asyncDispose]: close };
}

/** Terms in a process's log, in order, of lines that say this. */
function termsIn(child: TestProcess, said: string): number[] {
  const lines = child.output().split('\n');
  return lines.filter((line) => line.includes(`"msg":"${said}"`)).map((line) => JSON.parse(line).term as number);
}

test('an agent that knows a later leader is turned away by one that does not know yet that it is deposed, and renders on', async () => {
  using dir = new OwnDirectory();
  await using nats = await startNatsCluster({ size: 1, dir: join(dir.path, 'nats') });
  const [oldPort = 0, newPort = 0, oldDoor = 0, newDoor = 0] = await freePorts(4);
  // Agents come through doors, which can be closed without anything happening to the coordinator behind it.
  const openOld = () => TcpProxy.start({ port: oldDoor, to: oldPort });
  const openNew = () => TcpProxy.start({ port: newDoor, to: newPort });
  const [toOld, toNew] = [await openOld(), await openNew()];
  const at = (port: number, door: number) => ['--listen', `127.0.0.1:${port}`, '--advertise', `127.0.0.1:${door}`];
  const shared = ['--journal', nats.urls.join(','), '--artifacts', join(dir.path, 'artifacts')];
  const agent = { name: 'one', pace: 1, args: ['--coordinator', `127.0.0.1:${oldDoor},127.0.0.1:${newDoor}`] };
  await using farm = await Farm.start([agent], { args: [...shared, ...at(newPort, newDoor)] });
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 20 });
  const { jobId } = await farm.submit(audio);
  const paused = { jobId: (await farm.submit(audio)).jobId };
  await callUnary(farm.client, farm.client.pauseJob, paused);

  // The other coordinator takes over, and the agent comes to it.
  await using old = await startFreezable([
    ...[...shared, ...at(oldPort, oldDoor), '--admin', '127.0.0.1:0'],
    ...['--data-dir', join(dir.path, 'old')],
  ]);
  await farm.coordinator.kill();
  const online = async () => (await old.leads())?.nodes.some(({ state }) => state === 'NODE_STATE_ONLINE') ?? false;
  // From then on it does nothing about its lease, and answers all the same.
  const frozenInOffice = async () => {
    if (!(await online())) return false;
    old.clock.freeze();
    if (await online()) return true;
    // A busy machine made it miss its renewal just then.
    old.clock.thaw();
    return false;
  };
  await until(frozenInOffice, 'it leads, and the agent is linked to it', 60);

  const led = () => termsIn(farm.coordinator, 'leading');
  const [first] = led();
  await farm.startCoordinator();
  await until(() => led().at(-1) !== first, 'another leads', 60);
  assert.ok(await old.leads(), 'it believes to lead');
  await assert.rejects(callUnary(old.client, old.client.resumeJob, paused), {
    code: 'unavailable',
    message: /the leader of term \d+ took over from term \d+/,
  });

  await toOld[Symbol.asyncDispose]();
  const term = led().at(-1) ?? assert.fail('none leads');
  const linked = () => termsIn(farm.agent('one'), 'linked to the coordinator');
  await until(() => linked().includes(term), 'the agent is linked to the new leader', 60);
  await using _toOldAgain = await openOld();
  await toNew[Symbol.asyncDispose]();
  const turnedAway = /the agent knows term (\d+) of this farm, this coordinator leads in term (\d+)/;
  await until(() => turnedAway.test(farm.agent('one').output()), 'the agent is turned away', 60);
  const [, known, its] = turnedAway.exec(farm.agent('one').output()) ?? [];
  assert.deepEqual([Number(known), Number(its) < term], [term, true]);
  assert.ok(await old.leads(), 'it believes so still');

  await using _toNewAgain = await openNew();
  await prove(farm, jobId);
  assert.equal(linked().at(-1), term, 'nobody else has welcomed it since');
  assert.equal((await farm.job(paused.jobId)).state, 'JOB_STATE_PAUSED');

  old.clock.thaw();
  await until(async () => (await old.leads()) === null, 'it knows now');
});
