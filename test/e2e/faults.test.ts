import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Farm, PATIENT, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { alive, descendants, killOneRunner } from '../harness/os.ts';
import { renderedAgain, renderedInVain } from '../harness/rendered.ts';

it('a job survives kill -9 of an agent, of a runner and of the coordinator', async () => {
  const agents = [
    { name: 'one', pace: 0.5 },
    { name: 'two', pace: 0.5 },
    { name: 'three', pace: 0.5 },
  ];
  await using farm = await Farm.start(agents, PATIENT);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 41 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 4);
  await farm.agent('one').kill();
  await farm.committed(jobId, 8);
  assert.ok(killOneRunner(farm.agent('two').child.pid), 'a runner was killed');
  await farm.committed(jobId, 11);
  await farm.coordinator.kill();
  await sleep(700);
  await farm.startCoordinator();
  await farm.startAgent({ name: 'one', pace: 0.5 });
  await prove(farm, jobId);
  const again = renderedAgain(farm, jobId);
  assert.ok(again <= 3, `${again} clips were rendered again for three kills`);
});

it('no process outlives a killed agent', async () => {
  await using farm = await Farm.start([{ name: 'one', pace: 0.5 }]);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 20 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 2);
  const children = descendants(farm.agent('one').child.pid);
  assert.ok(children.length > 0, 'the agent has a runner');
  await farm.agent('one').kill();
  await until(() => alive(children).length === 0, 'they are gone');
});

it('an agent that stops kindly finishes its clip, gives the rest back and exits 0', async () => {
  await using farm = await Farm.start(
    [
      { name: 'leaving', pace: 0.6 },
      { name: 'staying', pace: 0.2 },
    ],
    PATIENT,
  );
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 30 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 3);
  assert.equal(await farm.agent('leaving').stop(), 0);
  await prove(farm, jobId);
  assert.deepEqual(renderedInVain(farm, jobId), [], 'no clip was rendered twice');
});

it('a runner that always fails on one clip fails the job with the evidence, and a retry elsewhere completes it', async () => {
  const bad = ['--runner-arg=--fail-at-clip', '--runner-arg=2:device'];
  await using farm = await Farm.start(['a', 'b', 'c'].map((name) => ({ name, pace: 0, args: bad })));
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 9 });
  const { jobId } = await farm.submit(audio);
  const failed = await farm.finished(jobId);
  assert.equal(failed.state, 'JOB_STATE_FAILED');
  assert.match(failed.stateReason, /clip 2/);
  assert.ok(failed.failures.length >= 3);
  for (const agent of farm.agents.values()) await agent.kill();
  await farm.startAgent({ name: 'good', pace: 0 });
  await farm.call(farm.client.retryJob, { jobId });
  await prove(farm, jobId);
});
