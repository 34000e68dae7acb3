import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { startServer } from '@clipfarm/shared/rpc/rpc-harness';
import { completed, startFakeFarm } from './testing/fake-farm.ts';
import { job } from './testing/farm-fixtures.ts';
import { cli, files } from './testing/run-cli.ts';

/** Nothing listens there. */
const DEAD = '127.0.0.1:1';

/**
 * A coordinator that follows: it knows which inputs are stored, and refuses what only the leader may do.
 *
 * @param leader whom it names at the n-th refusal.
 */
async function startFollower(t: TestContext, leader: (refusal: number) => string): Promise<string> {
  let refusals = 0;
  const refuse = (): never => {
    const address = leader(refusals++);
    throw new FarmError('unavailable', `this coordinator follows; the one at ${address} leads`, { leader: address });
  };
  const { port } = await startServer(t, (wrap) => ({
    statInput: wrap.unary(() => ({ stored: false })),
    uploadInput: wrap.clientStream(refuse),
    planJob: wrap.unary(refuse),
    submitJob: wrap.unary(refuse),
    cancelJob: wrap.unary(refuse),
  }));
  return `127.0.0.1:${port}`;
}

test('inputs go to the leader that a follower names', async (t) => {
  const farm = await startFakeFarm(t);
  const follower = await startFollower(t, () => farm.address);
  const { image, audio } = files(t);
  const all = `${follower},${farm.address}`;
  const { code, err } = await cli(undefined, 'submit', '--coordinator', all, '--image', image, '--audio', audio);
  assert.equal(code, 0, err);
  assert.equal(farm.state.inputs.size, 2);
  assert.doesNotMatch(err, /trying again/);
});

test('inputs go to the coordinator that answers when the one named first is gone', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  const all = `${DEAD},${farm.address}`;
  const { code, err } = await cli(undefined, 'submit', '--coordinator', all, '--image', image, '--audio', audio);
  assert.equal(code, 0, err);
  assert.equal(farm.state.inputs.size, 2);
});

test('a submit that comes while a killed leader is not replaced yet waits for the next one', async (t) => {
  const farm = await startFakeFarm(t);
  const follower = await startFollower(t, (refusal) => (refusal < 2 ? DEAD : farm.address));
  const { image, audio } = files(t);
  const all = `${DEAD},${follower}`;
  const { code, err } = await cli(undefined, 'submit', '--coordinator', all, '--image', image, '--audio', audio);
  assert.equal(code, 0, err);
  assert.match(err, /waiting: no coordinator leads just now: .*; trying again/);
  assert.equal(farm.state.submitted.length, 1);
});

test('a change that comes meanwhile waits as well; it says that nobody leads, not to ask the one that is gone', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  const follower = await startFollower(t, (refusal) => (refusal < 2 ? DEAD : farm.address));
  const { code, err } = await cli(undefined, 'job', 'cancel', 'job-1', '--coordinator', `${DEAD},${follower}`);
  assert.equal(code, 0, err);
  assert.match(
    err,
    /^waiting: no coordinator leads just now: the one that led, at 127\.0\.0\.1:1, does not answer; trying again in 1 s\n/,
  );
});

test('a change that nobody answers is told so at once', async () => {
  const { code, err } = await cli(undefined, 'job', 'cancel', 'job-1', '--coordinator', DEAD);
  assert.equal(code, 3);
  assert.match(err, /^error: no coordinator answers at 127\.0\.0\.1:1: /);
});

test('a job is watched at the coordinator that answers when the one named first is gone', async (t) => {
  const farm = await startFakeFarm(t);
  const { code, out, err } = await cli(
    undefined,
    'job',
    'watch',
    'job-1',
    '-o',
    'json',
    '--coordinator',
    `${DEAD},${farm.address}`,
  );
  assert.equal(code, 0, err);
  assert.match(out, /JOB_STATE_COMPLETED/);
});

test('a watch does not go back to what a coordinator tells that knows less than the one before it', async (t) => {
  const farm = await startFakeFarm(t);
  const rendering = (revision: number, clipsCommitted: number) =>
    job(JobState.JOB_STATE_RENDERING, { revision, clipsCommitted });
  const failed = job(JobState.JOB_STATE_FAILED, { revision: 4 });
  const end = { ...completed(farm.state.video), revision: 9 };
  farm.state.watches = [[rendering(8, 20)], [rendering(7, 19), failed, rendering(8, 20), end]];
  farm.state.breakWatch = (call) => call === 0;
  const { code, out, err } = await cli(undefined, 'job', 'watch', 'job-1', '-o', 'json', '--coordinator', farm.address);
  assert.equal(code, 0, err);
  const told = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).job.revision);
  assert.deepEqual(told, [8, 8, 9]);
});

test('a submit that nobody answers is told so at once', async (t) => {
  const { image, audio } = files(t);
  const { code, err } = await cli(undefined, 'submit', '--coordinator', DEAD, '--image', image, '--audio', audio);
  assert.equal(code, 3);
  assert.match(err, /^error: no coordinator answers at 127\.0\.0\.1:1: /);
});
