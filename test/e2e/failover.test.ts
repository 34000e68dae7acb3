import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import { Farm, PATIENT, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { freeze } from '../harness/os.ts';

/** Lines of a coordinator's log with this message. */
function linesOf(farm: Farm, index: number, said: string): Record<string, unknown>[] {
  const lines = farm.coordinators[index]?.process.output().split('\n') ?? [];
  return lines.filter((line) => line.includes(`"msg":"${said}"`)).map((line) => JSON.parse(line));
}

it('three coordinators on JetStream: the leader is killed, frozen and stopped, and the job goes on', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-nats-'));
  try {
    await using nats = await startNatsCluster({ size: 1, dir });
    const shared = [
      '--journal',
      nats.urls.join(','),
      '--artifacts',
      join(dir, 'artifacts'),
      '--election-millis',
      '2000',
      ...PATIENT,
    ];
    const agents = [
      { name: 'one', pace: 0.6 },
      { name: 'two', pace: 0.6 },
    ];
    await using farm = await Farm.start(agents, { coordinators: 3, args: shared });
    const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 45 });
    const { jobId } = await farm.submit(audio);
    await farm.committed(jobId, 3);

    const killed = await farm.findLeader();
    await farm.coordinator.kill();
    const killedAt = Date.now();
    const second = await farm.findLeader();
    console.log({ killedLeaderReplacedAfterMillis: Date.now() - killedAt });
    assert.notEqual(second, killed);
    const follower = [0, 1, 2].find((index) => index !== killed && index !== second) ?? assert.fail();
    await until(() => linesOf(farm, second, 'leading').length > 0, 'the second has taken the farm over');
    const [taken] = linesOf(farm, second, 'leading');
    assert.ok(Number(taken?.leaderless_seconds) > 0, JSON.stringify(taken));
    assert.ok(
      Number(taken?.leases_rearmed) >= 1 && taken?.jobs === 1 && taken.nodes_awaited === 2,
      'what it took over',
    );
    const followed = () => linesOf(farm, follower, 'following another coordinator, which leads now');
    await until(() => followed().at(-1)?.term === taken?.term, 'the third hears who leads');
    assert.equal(followed().at(-1)?.leader, farm.coordinators[second]?.address);
    assert.ok(Number(followed().at(-1)?.leaderless_seconds) > 0);
    await farm.startCoordinator(killed);
    await farm.committed(jobId, 9);

    const frozen = await farm.findLeader();
    const old = farm.coordinator;
    await freeze(old.child.pid ?? assert.fail());
    const third = await farm.findLeader();
    assert.notEqual(third, frozen);
    await farm.committed(jobId, 15);
    // It finds this call when it wakes up, and has not heard yet that it no longer leads.
    const { client } = farm.coordinators[frozen] ?? assert.fail();
    const pausing = callUnary(client, client.pauseJob, { jobId }, { timeoutMs: 60_000 });
    old.signal('SIGCONT');
    await assert.rejects(pausing, { code: 'unavailable' }, 'it no longer leads');

    const leaving = await farm.findLeader();
    const stoppedAt = Date.now();
    assert.equal(await farm.coordinator.stop(), 0);
    assert.notEqual(await farm.findLeader(), leaving);
    console.log({ stoppedLeaderReplacedAfterMillis: Date.now() - stoppedAt });
    await prove(farm, jobId);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
