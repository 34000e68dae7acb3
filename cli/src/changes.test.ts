import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { completed, startFakeFarm } from './testing/fake-farm.ts';
import { job } from './testing/farm-fixtures.ts';
import { cli } from './testing/run-cli.ts';

const away = new FarmError('unavailable', 'no coordinator leads just now');

for (const argv of [
  ['job', 'cancel', 'job'],
  ['job', 'pause', 'job'],
  ['job', 'resume', 'job'],
  ['job', 'priority', 'job', '5'],
  ['node', 'drain', 'fast'],
  ['node', 'undrain', 'fast'],
]) {
  test(`${argv.slice(0, 2).join(' ')} waits while nobody leads, and says so`, async (t) => {
    const farm = await startFakeFarm(t);
    farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
    farm.state.failChange = (call) => (call === 0 ? { error: away, done: false } : undefined);
    const { code, err } = await cli(farm, ...argv);
    assert.equal(code, 0, err);
    assert.match(err, /^waiting: no coordinator leads just now; trying again in 1 s\n(job|node) \S+ is /);
    assert.equal(farm.state.changes.length, 1);
  });
}

test('a retry whose answer was lost counts as done when it is asked again; another refusal does not', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_FAILED)];
  farm.state.failChange = (call) => (call === 0 ? { error: away, done: true } : undefined);
  const done = await cli(farm, 'job', 'retry', 'job');
  assert.equal(done.code, 0, done.err);
  assert.match(done.err, /trying again in 1 s\njob job-1 is rendering\n$/);
  const again = await cli(farm, 'job', 'retry', 'job');
  assert.equal(again.code, 7);
  assert.match(again.err, /^error: only a failed or cancelled job/);
  farm.state.failChange = (call) => (call === 3 ? { error: away, done: false } : undefined);
  farm.state.jobs = [completed(farm.state.video)];
  assert.equal((await cli(farm, 'job', 'retry', 'job')).code, 7, 'it has ended: nothing was taken up');
});

test('only a change of the priority says what the priority is', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_PAUSED)];
  assert.equal((await cli(farm, 'job', 'pause', 'job')).err, 'job job-1 is paused\n');
  assert.equal((await cli(farm, 'job', 'priority', 'job', '5')).err, 'job job-1 is paused, priority 0\n');
});

test('what a follower shows while nobody leads is said to be perhaps outdated', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  farm.state.staleReason = 'no coordinator leads just now: no connection to NATS';
  const note = /^note: no coordinator leads just now: no connection to NATS; what is shown may be outdated\n$/;
  for (const argv of [['jobs'], ['job', 'get', 'job'], ['jobs', '-o', 'json']]) {
    const { code, out, err } = await cli(farm, ...argv);
    assert.equal(code, 0);
    assert.notEqual(out, '');
    assert.match(err, note);
  }
  assert.equal(JSON.parse((await cli(farm, 'jobs', '-o', 'json')).out).staleReason, farm.state.staleReason);
  farm.state.watches = [
    [job(JobState.JOB_STATE_RENDERING), job(JobState.JOB_STATE_RENDERING), completed(farm.state.video)],
  ];
  const watched = await cli(farm, 'job', 'watch', 'job');
  assert.equal(watched.err.match(/no coordinator leads/g)?.length, 1, watched.err);
  farm.state.staleReason = '';
  assert.equal((await cli(farm, 'jobs')).err, '');
});
