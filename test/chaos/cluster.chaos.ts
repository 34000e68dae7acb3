import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Farm } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { killOneRunner } from '../harness/os.ts';
import { clipsRendered } from '../harness/rendered.ts';
import { seeded } from '../harness/seeded.ts';

const FAULTS = Number(process.env.CLIPFARM_CHAOS_FAULTS ?? 300);
const SEED = Number(process.env.CLIPFARM_CHAOS_SEED ?? 1);

const names = ['one', 'two', 'three'];
const agentOf = (name: string) => ({ name, pace: 0.4 });

const kinds = ['leader', 'follower', 'agent', 'runner', 'nats', 'allNats', 'frozenLeader', 'frozenAgent'] as const;

it(`${FAULTS} faults in a cluster of three coordinators and three NATS servers (seed ${SEED}) lose nothing`, async () => {
  const random = seeded(SEED);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-chaos-'));
  const counts = new Map<string, number>();
  const failOvers: number[] = [];
  try {
    await using nats = await startNatsCluster({ size: 3, dir });
    const args = ['--journal', nats.urls.join(','), '--artifacts', join(dir, 'artifacts')];
    await using farm = await Farm.start(names.map(agentOf), { coordinators: 3, args });
    const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 60 });
    const submit = async () => (await farm.submit(audio)).jobId;
    const jobs = [await submit()];
    const faults: { readonly [K in (typeof kinds)[number]]: () => Promise<boolean> } = {
      leader: async () => {
        const index = await farm.findLeader();
        await farm.coordinator.kill();
        const since = Date.now();
        await farm.findLeader(60);
        failOvers.push(Date.now() - since);
        await farm.startCoordinator(index);
        return true;
      },
      follower: async () => {
        const index = ((await farm.findLeader()) + 1) % 3;
        await farm.coordinators[index]?.process.kill();
        await sleep(random() * 1000);
        await farm.startCoordinator(index);
        return true;
      },
      agent: async () => {
        const name = pick(names);
        await farm.agent(name).kill();
        await sleep(random() * 3000);
        await farm.startAgent(agentOf(name));
        return true;
      },
      runner: async () => killOneRunner(farm.agent(pick(names)).child.pid),
      nats: async () => {
        const server = pick(nats.servers);
        await server.kill();
        await sleep(random() * 3000);
        await server.start();
        return true;
      },
      allNats: async () => {
        await Promise.all(nats.servers.map((server) => server.kill()));
        await sleep(random() * 2000);
        await Promise.all(nats.servers.map((server) => server.start()));
        return true;
      },
      frozenLeader: async () => {
        await farm.findLeader();
        const { coordinator } = farm;
        coordinator.signal('SIGSTOP');
        await sleep(6000 + random() * 4000);
        coordinator.signal('SIGCONT');
        return true;
      },
      frozenAgent: async () => {
        const agent = farm.agent(pick(names));
        agent.signal('SIGSTOP');
        await sleep(random() * 9000);
        agent.signal('SIGCONT');
        return true;
      },
    };
    for (let done = 0; done < FAULTS; ) {
      await sleep(200 + random() * 1500);
      await farm.findLeader(60);
      const current = await farm.job(jobs.at(-1) ?? '').catch(() => null);
      if (current?.state === 'JOB_STATE_COMPLETED') jobs.push(await submit());
      const kind = pick(kinds);
      if (!(await faults[kind]())) continue;
      done += 1;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    await farm.findLeader(60);
    let wanted = 0;
    for (const jobId of jobs) {
      await prove(farm, jobId, 240);
      wanted += (await farm.job(jobId)).plan?.clips ?? 0;
    }
    const rendered = [...clipsRendered(farm).values()].reduce((sum, clips) => sum + clips, 0);
    const sorted = failOvers.sort((a, b) => a - b);
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    console.log({
      seed: SEED,
      faults: Object.fromEntries(counts),
      jobs: jobs.length,
      clips: wanted,
      renderedTwice: rendered - wanted,
      failOverMillis: { p50: at(0.5), p99: at(0.99) },
    });
    assert.ok(jobs.length > 0);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
