import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { completed, startFakeFarm } from './testing/fake-farm.ts';
import { job } from './testing/farm-fixtures.ts';
import { cli, files } from './testing/run-cli.ts';

test('a download that breaks goes on where it stopped; one with other content leaves nothing behind', async (t) => {
  const farm = await startFakeFarm(t);
  const { dir } = files(t);
  const output = join(dir, 'out.mp4');
  farm.state.jobs = [completed(farm.state.video)];
  farm.state.breakDownload = (call) => (call === 0 ? 250_000 : undefined);
  const good = await cli(farm, 'job', 'download', 'job', '--output', output);
  assert.equal(good.code, 0, good.err);
  assert.equal(good.out, `${output}\n`);
  assert.ok(readFileSync(output).equals(farm.state.video));
  farm.state.video = Buffer.alloc(farm.state.video.length, 'other');
  const bad = await cli(farm, 'job', 'download', 'job', '--output', output, '--force');
  assert.equal(bad.code, 1);
  assert.match(bad.err, /error: the download has .* promised were/);
  assert.equal(existsSync(`${output}.part`), false);
  assert.ok(!readFileSync(output).equals(farm.state.video), 'the old file is untouched');
});

test('what is there of a video is downloaded while the rest is rendered; a broken line starts it anew', async (t) => {
  const farm = await startFakeFarm(t);
  const output = join(files(t).dir, 'talk.mp4');
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  farm.state.breakDownload = (call) => (call === 0 ? 1000 : undefined);
  const partial = ['job', 'download', 'job', '--output', output, '--partial'];
  const good = await cli(farm, ...partial, '-o', 'json');
  assert.equal(good.code, 0);
  const half = farm.state.video.subarray(0, farm.state.video.length / 2);
  assert.deepEqual(readFileSync(output), half);
  const { clips, frames, bytes } = JSON.parse(good.out);
  assert.deepEqual([clips, frames, bytes], [2, 96, half.length]);
  assert.match(good.err, /saved .*talk\.mp4 \(clips 0-1 of 50, 3\.8 s, .*SHA-256 checked\)/);
  farm.state.prefixSha256 = '00'.repeat(32);
  const bad = await cli(farm, ...partial, '--force');
  assert.equal(bad.code, 1);
  assert.match(bad.err, /error: the download has .* promised were/);
  assert.deepEqual(readFileSync(output), half, 'the good one stays');
  assert.ok(!existsSync(`${output}.part`));
  farm.state.jobs = [completed(farm.state.video)];
  assert.equal((await cli(farm, ...partial, '--force')).code, 0);
  assert.deepEqual(readFileSync(output), farm.state.video, 'a completed job gives all of it');
});

test('a job without a video is not downloaded, and the way to one depends on its state', async (t) => {
  const farm = await startFakeFarm(t);
  const { dir } = files(t);
  const output = join(dir, 'x.mp4');
  const ways: [JobState, RegExp][] = [
    [JobState.JOB_STATE_RENDERING, /is rendering and has no video yet\ntry: .*job watch job-1/],
    [JobState.JOB_STATE_PAUSED, /is paused and has no video yet\ntry: .*job resume job-1/],
    [JobState.JOB_STATE_CANCELLED, /is cancelled and has no video\ntry: .*job retry job-1/],
  ];
  for (const [state, message] of ways) {
    farm.state.jobs = [job(state)];
    const { code, err } = await cli(farm, 'job', 'download', 'job', '--output', output);
    assert.equal(code, 7);
    assert.match(err, message);
  }
});

test('a video that cannot be saved is not lost, and the error says so', async (t) => {
  const farm = await startFakeFarm(t);
  const { dir, image, audio } = files(t);
  const output = join(dir, 'out.mp4');
  farm.state.breakDownload = () => {
    // Somebody else's file, made while the job was rendered.
    writeFileSync(output, 'mine');
    return undefined;
  };
  const { code, err } = await cli(farm, 'submit', '--image', image, '--audio', audio, '--output', output);
  assert.equal(code, 2);
  assert.match(err, /output: .* exists; .*\ntry: .*The video is kept; fetch it with: clipfarm job download job-1/);
  assert.equal(readFileSync(output, 'utf8'), 'mine');
});
