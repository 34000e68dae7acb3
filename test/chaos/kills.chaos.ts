import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Farm } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { killOneRunner } from '../harness/os.ts';
import { clipsRendered } from '../harness/rendered.ts';
import { seeded } from '../harness/seeded.ts';

const KILLS = Number(process.env.CLIPFARM_CHAOS_KILLS ?? 60);
const SEED = Number(process.env.CLIPFARM_CHAOS_SEED ?? 1);

const names = ['one', 'two', 'three'];
const agentOf = (name: string) => ({ name, pace: 0.4 });

it(`${KILLS} kills at random moments (seed ${SEED}) lose nothing and cost at most a clip each`, async () => {
  const random = seeded(SEED);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const timings = ['--heartbeat-millis', '300', '--lease-millis', '2000'];
  await using farm = await Farm.start(names.map(agentOf), timings);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 60 });
  const counts = { agent: 0, runner: 0, coordinator: 0 };
  const jobs: string[] = [(await farm.submit(audio)).jobId];

  for (let kills = 0; kills < KILLS; ) {
    await sleep(300 + random() * 1700);
    const current = await farm.job(jobs.at(-1) ?? '');
    if (current.state === 'JOB_STATE_COMPLETED') jobs.push((await farm.submit(audio)).jobId);
    const victim = pick(['agent', 'runner', 'coordinator'] as const);
    const name = pick(names);
    if (victim === 'agent') {
      await farm.agent(name).kill();
      await sleep(random() * 3000);
      await farm.startAgent(agentOf(name));
    } else if (victim === 'coordinator') {
      await farm.coordinator.kill();
      await sleep(random() * 2500);
      await farm.startCoordinator();
    } else if (!killOneRunner(farm.agent(name).child.pid)) {
      continue;
    }
    kills += 1;
    counts[victim] += 1;
  }

  let wanted = 0;
  for (const jobId of jobs) {
    await prove(farm, jobId, 180);
    wanted += (await farm.job(jobId)).plan?.clips ?? 0;
  }
  const rendered = [...clipsRendered(farm).values()].reduce((sum, clips) => sum + clips, 0);
  console.log({ seed: SEED, kills: counts, jobs: jobs.length, clips: wanted, renderedTwice: rendered - wanted });
  assert.ok(rendered - wanted <= KILLS, `${rendered - wanted} clips were rendered twice for ${KILLS} kills`);
});
