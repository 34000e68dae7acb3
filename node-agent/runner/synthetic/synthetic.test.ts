import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import { ended, isRunning } from '../../src/runner/testdata/processes.ts';
import { jobHash } from './stamp.ts';
import { makeInputs, startRig } from './testdata/harness.ts';

test('a span from the beginning lacks its first 3 frames and stamps all others with their place on the timeline', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  await rig.send({ type: 'render', request });
  assert.deepEqual(await rig.next('spanEnded'), { type: 'spanEnded', leaseId: 'lease-1', reason: 'completed', end: 3 });
  assert.equal(rig.frames.length, 3 * 48 - 3);
  for (const [i, { produced, stamp }] of rig.frames.entries()) {
    const clip = Math.floor((i + 3) / 48);
    assert.equal(produced, i);
    assert.deepEqual(stamp, { job: jobHash('job-1'), frame: i + 3, clip, span: 3, seed: 420 + clip });
  }
  const counts = rig.messages.flatMap((message) => (message.type === 'frames' ? [message.count] : []));
  assert.deepEqual(counts, [9, ...new Array(11).fill(12)]);
  assert.equal(rig.messages.filter(({ type }) => type === 'progress').length, 12);
  const clips = rig.messages.flatMap((message) => (message.type === 'clip' ? [message.clip] : []));
  assert.deepEqual(clips, [0, 1, 2]);
  assert.deepEqual(await rig.runner.close(60_000), { code: 0, signal: null, fault: null });
});

test('a span with pre-roll renders the clips before its start too, and one process renders span after span', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  for (const [start, preRoll, end] of [
    [4, 1, 6],
    [9, 3, 10],
  ] as const) {
    const before = rig.frames.length;
    await rig.send({ type: 'render', request: { ...request, start, end, preRoll, anchored: true } });
    assert.equal((await rig.next('spanEnded')).end, end);
    const frames = rig.frames.slice(before);
    assert.equal(frames.length, (end - start + preRoll) * 48 - 3);
    assert.deepEqual(
      frames.map(({ stamp }) => stamp?.frame),
      frames.map((_, i) => (start - preRoll) * 48 + 3 + i),
    );
    assert.deepEqual([frames[0]?.stamp?.seed, frames.at(-1)?.stamp?.seed], [420 + start - preRoll, 420 + end - 1]);
  }
});

test('the same span is the same again to the last pixel, whoever renders it, and another span looks different', async (t) => {
  const { directory, request } = await makeInputs(t);
  const span = { ...request, start: 2, end: 3, preRoll: 1 };
  const renders: string[][] = [];
  for (const wanted of [span, span, { ...span, preRoll: 2 }]) {
    const rig = await startRig(t, directory);
    await rig.send({ type: 'render', request: wanted });
    await rig.next('spanEnded');
    renders.push(rig.frames.slice(-48).map(({ sha256 }) => sha256));
    await rig.runner.close(60_000);
  }
  const [one, again, other] = renders;
  assert.equal(new Set(one).size, 48);
  assert.deepEqual(one, again);
  assert.ok(one?.every((sha256) => other?.includes(sha256) === false));
});

test('a span that goes on in the open call has no pre-roll, loses nothing and looks as if it had never stopped', async (t) => {
  const { directory, request } = await makeInputs(t);
  const whole = await startRig(t, directory);
  await whole.send({ type: 'render', request: { ...request, end: 5 } });
  await whole.next('spanEnded');
  await whole.runner.close(60_000);

  const rig = await startRig(t, directory);
  await rig.send({ type: 'render', request: { ...request, end: 2 } });
  assert.equal((await rig.next('spanStarted')).continued, false);
  await rig.next('spanEnded');
  const before = rig.frames.length;
  const second = { ...request, leaseId: 'lease-2', span: 7, start: 2, end: 5, preRoll: 1, continues: 'lease-1' };
  await rig.send({ type: 'render', request: { ...second, anchored: true } });
  assert.deepEqual(await rig.next('spanStarted'), { type: 'spanStarted', leaseId: 'lease-2', continued: true });
  assert.equal((await rig.next('spanEnded')).end, 5);
  const frames = rig.frames.slice(before);
  assert.deepEqual(
    frames.map(({ produced, stamp }) => [produced, stamp?.frame]),
    Array.from({ length: 3 * 48 }, (_, i) => [i, 96 + i]),
  );
  assert.deepEqual(
    rig.frames.map(({ sha256 }) => sha256),
    whole.frames.map(({ sha256 }) => sha256),
  );
});

test('a span begins a call of its own when the one that it asks for is not open where it starts', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  const begin = async (change: Partial<SpanRequest>): Promise<boolean> => {
    await rig.send({ type: 'render', request: { ...request, ...change } });
    const { continued } = await rig.next('spanStarted');
    await rig.next('spanEnded');
    return continued;
  };
  const next = { leaseId: 'b', start: 1, end: 2, preRoll: 1, continues: 'a' };
  for (const change of [
    { start: 2, end: 3 },
    { continues: 'z' },
    { jobId: 'job-2' },
    { sampleSteps: 3 },
    { baseSeed: 9 },
    { prompt: 'x' },
  ]) {
    assert.equal(await begin({ leaseId: 'a', end: 1 }), false);
    assert.equal(await begin({ ...next, ...change }), false, JSON.stringify(change));
  }
  await begin({ leaseId: 'a', end: 1 });
  await rig.send({ type: 'unload' });
  assert.equal((await rig.next('unloaded')).memoryBytes, 0);
  await rig.send({ type: 'render', request: { ...request, ...next } });
  assert.match((await rig.next('error')).message, /not loaded/);
  await rig.send({ type: 'load' });
  await rig.next('loaded');
  assert.equal(await begin(next), false);
});

test('what an unload leaves behind can be pretended', async (t) => {
  const { directory } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--unload-keeps-gib', '2']);
  await rig.send({ type: 'unload' });
  assert.equal((await rig.next('unloaded')).memoryBytes, 2 ** 31);
});

test('a call that was cut off within a clip is not gone on with', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  // It can't be ahead of what is read here by more than a block, so nine clips are enough to be in time.
  await rig.send({ type: 'render', request: { ...request, end: 10 } });
  await rig.next('clip');
  await rig.send({ type: 'cancel', leaseId: 'lease-1' });
  const { reason, end } = await rig.next('spanEnded');
  assert.equal(reason, 'cancelled');
  await rig.next('spanStarted');
  const next = { leaseId: 'b', start: end, end: end + 1, preRoll: 1, continues: 'lease-1' };
  await rig.send({ type: 'render', request: { ...request, ...next } });
  assert.equal((await rig.next('spanStarted')).continued, false);
});

test('an end that is moved closer stops the span at a clip boundary, one that is moved away prolongs it', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  await rig.send({ type: 'render', request: { ...request, end: 9 } });
  await rig.next('clip');
  await rig.send({ type: 'setEnd', leaseId: 'another', end: 1 }, { type: 'setEnd', leaseId: 'lease-1', end: 0 });
  const stopped = await rig.next('spanEnded');
  assert.equal(stopped.reason, 'stopped');
  assert.ok(stopped.end >= 1 && stopped.end < 9);
  assert.equal(rig.frames.length, 48 * stopped.end - 3);

  const second = { ...request, leaseId: 'lease-2', end: 2 };
  await rig.send({ type: 'render', request: second }, { type: 'setEnd', leaseId: 'lease-2', end: 4 });
  assert.deepEqual(await rig.next('spanEnded'), { type: 'spanEnded', leaseId: 'lease-2', reason: 'completed', end: 4 });
});

test('an end beyond the job is taken as the end of the job', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  const last = { ...request, start: 8, end: 9, preRoll: 1 };
  await rig.send({ type: 'render', request: last }, { type: 'setEnd', leaseId: 'lease-1', end: 500 });
  assert.equal((await rig.next('spanEnded')).end, 10);
});

test('a cancel ends the span within the clip, even while it waits', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--seconds-per-clip', '3600']);
  await rig.send({ type: 'render', request });
  await rig.next('spanStarted');
  await rig.send({ type: 'cancel', leaseId: 'lease-1' });
  assert.deepEqual(await rig.next('spanEnded'), { type: 'spanEnded', leaseId: 'lease-1', reason: 'cancelled', end: 0 });
  assert.equal(rig.frames.length, 0);
});

test('a clip takes at least the time that the runner pretends to need, and a new picture size its warm-up', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--seconds-per-clip', '0.3', '--warm-up-seconds', '0.5']);
  const spans: number[] = [];
  for (const leaseId of ['cold', 'warm']) {
    const begun = performance.now();
    await rig.send({ type: 'render', request: { ...request, leaseId, end: 1 } });
    await rig.next('spanEnded');
    spans.push((performance.now() - begun) / 1000);
    assert.ok((await rig.next('clip')).renderSeconds >= 0.3);
  }
  assert.ok((spans[0] ?? 0) >= 0.8, `${spans[0]} s`);
});

test('loading reports its phases', async (t) => {
  const { directory } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--load-seconds', '0.2']);
  const fractions = rig.messages.flatMap((message) => (message.type === 'loading' ? [message.fraction] : []));
  assert.deepEqual(fractions, [0, 0.25, 0.5, 0.75]);
});

test('a picture that the pretended GPU can not hold is refused with the numbers, and a smaller one is not', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--memory-gib', '64']);
  await rig.send({ type: 'render', request: { ...request, width: 704, height: 384 } });
  const refused = await rig.next('error');
  assert.equal(refused.class, 'out_of_memory');
  assert.equal(refused.leaseId, 'lease-1');
  assert.match(refused.message, /704x384 needs \d+\.\d GiB, the GPU has 64\.0 GiB/);
  await rig.send({ type: 'render', request: { ...request, end: 1 } });
  assert.equal((await rig.next('spanEnded')).reason, 'completed');
});

test('requests that no model could render are refused, and the runner goes on', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  await writeFile(join(directory, 'noise.png'), 'not a picture');
  for (const [change, message] of [
    [{ start: 2, preRoll: 0 }, /pre_roll is 0/],
    [{ start: 3, end: 3, preRoll: 1 }, /end is 3/],
    [{ end: 11 }, /end is 11; the job has 10 clips/],
    [{ height: 64 }, /reference picture is larger|height is 64/],
    [{ width: 320 }, /reference picture has 32768 pixels; accepted: a PNG of 320x128/],
    [{ referencePath: join(directory, 'noise.png') }, /reference picture/],
    [{ referencePath: join(directory, 'absent.png') }, /reference picture/],
    [{ audioPath: request.referencePath }, /audio is no RIFF WAVE file/],
    [{ audioPath: join(directory, 'absent.wav') }, /audio can't be read/],
  ] as const) {
    await rig.send({ type: 'render', request: { ...request, ...change } });
    const error = await rig.next('error');
    assert.equal(error.class, 'bad_input', error.message);
    assert.match(error.message, message);
  }
  await rig.send({ type: 'render', request: { ...request, end: 1 } });
  await rig.next('spanEnded');
});

test('a second span beside a running one is refused and does not disturb it', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory);
  await rig.send({ type: 'render', request }, { type: 'render', request: { ...request, leaseId: 'lease-2' } });
  const error = await rig.next('error');
  assert.deepEqual([error.leaseId, error.class], ['lease-2', 'bad_input']);
  assert.equal((await rig.next('spanEnded')).leaseId, 'lease-1');
});

test('a failure in the middle of a clip is reported with its class, once when a file remembers it', async (t) => {
  const { directory, request } = await makeInputs(t);
  const once = join(directory, 'failed-once');
  const rig = await startRig(t, directory, ['--fail-at-clip', '1:environment', '--fail-once-file', once]);
  await rig.send({ type: 'render', request });
  const error = await rig.next('error');
  assert.deepEqual(error, {
    type: 'error',
    leaseId: 'lease-1',
    class: 'environment',
    message: 'synthetic environment at clip 1',
  });
  await access(once);
  assert.equal(rig.frames.length, 45 + 12);
  await rig.send({ type: 'render', request });
  assert.equal((await rig.next('spanEnded')).reason, 'completed');
});

test('after a device failure nothing is rendered any more', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--fail-at-clip', '0:device']);
  for (const start of [0, 1]) {
    await rig.send({ type: 'render', request: { ...request, start, preRoll: start } });
    assert.equal((await rig.next('error')).class, 'device');
  }
});

test('a crash ends the process by a signal', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--crash-at-clip', '1']);
  await rig.send({ type: 'render', request });
  assert.deepEqual(await rig.runner.exited, { code: null, signal: 'SIGKILL', fault: null });
  assert.equal(rig.frames.length, 45 + 12);
});

test('a hanging runner answers nothing, and still ends when it is closed', async (t) => {
  const { directory, request } = await makeInputs(t);
  const rig = await startRig(t, directory, ['--hang-at-clip', '0']);
  await rig.send({ type: 'render', request });
  await rig.next('progress');
  await rig.send({ type: 'cancel', leaseId: 'lease-1' });
  await rig.send({ type: 'shutdown' });
  await sleep(100);
  assert.ok(isRunning(rig.runner.pid));
  assert.equal(rig.messages.filter(({ type }) => type === 'spanEnded').length, 0);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const closed = rig.runner.close(400);
  t.mock.timers.tick(200);
  assert.equal((await closed).signal, 'SIGTERM');
});

test('a runner ends by itself when its agent is killed', async (t) => {
  const { request } = await makeInputs(t);
  const parent = fileURLToPath(new URL('./testdata/parent.ts', import.meta.url));
  const span = JSON.stringify({ ...request, end: 10 });
  const args = [parent, span, temporaryDirectory(t)];
  const agent = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => agent.kill('SIGKILL'));
  const early = once(agent, 'exit').then(() => assert.fail('the agent ended before its runner rendered'));
  const [line] = await Promise.race([once(agent.stdout, 'data'), early]);
  const runner = Number.parseInt(String(line), 10);
  t.after(() => isRunning(runner) && process.kill(runner, 'SIGKILL'));
  assert.ok(isRunning(runner));
  agent.kill('SIGKILL');
  await ended(runner);
});
