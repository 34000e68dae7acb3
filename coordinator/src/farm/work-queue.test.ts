import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { mediaPlaces, type QueueOptions, untilAborted, WorkQueue } from './work-queue.ts';

/** Lets everything happen that only waits for promises. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A queue with a diary of what began in it; each piece of work runs until it is told to end. */
function diaryOf(queue: WorkQueue) {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const add = (name: string, options: QueueOptions = {}) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    ends.set(name, (error) => (error ? reject(error) : resolve()));
    const work = () => {
      begun.push(name);
      return promise;
    };
    const run = queue.run(work, options);
    run.catch(() => undefined);
    return run;
  };
  const end = async (name: string, error?: Error) => {
    ends.get(name)?.(error);
    await settled();
  };
  return { begun, add, end };
}

test('only so much runs at once, in the order in which it came, and a failure gives its place back', async () => {
  const { begun, add, end } = diaryOf(new WorkQueue({ all: 2, notUrgent: 2 }));
  const runs = ['a', 'b', 'c', 'd'].map((name) => add(name));
  await settled();
  assert.deepEqual(begun, ['a', 'b']);
  await end('b', new Error('damaged'));
  assert.deepEqual(begun, ['a', 'b', 'c']);
  await end('a');
  assert.deepEqual(begun, ['a', 'b', 'c', 'd']);
  await end('c');
  await end('d');
  assert.deepEqual(
    (await Promise.allSettled(runs)).map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
  );
});

test('what somebody waits for goes first, and always finds a place that nothing else takes', async () => {
  const { begun, add, end } = diaryOf(new WorkQueue({ all: 2, notUrgent: 1 }));
  add('a');
  add('b');
  await settled();
  assert.deepEqual(begun, ['a'], 'one place is kept');
  add('call 1', { urgent: true });
  add('call 2', { urgent: true });
  await settled();
  assert.deepEqual(begun, ['a', 'call 1']);
  await end('a');
  assert.deepEqual(begun, ['a', 'call 1', 'call 2'], 'before b, which came earlier');
  await end('call 1');
  assert.deepEqual(begun, ['a', 'call 1', 'call 2', 'b']);
});

test('whoever is not there any more leaves the queue, and its work never begins', async () => {
  const queue = new WorkQueue({ all: 1, notUrgent: 1 });
  const { begun, add, end } = diaryOf(queue);
  add('a');
  const abort = new AbortController();
  const gone = add('gone', { signal: abort.signal, urgent: true });
  add('b');
  await settled();
  assert.equal(queue.waiting, 2);
  const reason = new FarmError('unavailable', 'the client cancelled the call');
  abort.abort(reason);
  await assert.rejects(gone, reason);
  assert.equal(queue.waiting, 1);
  await assert.rejects(add('late', { signal: abort.signal }), reason);
  await end('a');
  assert.deepEqual(begun, ['a', 'b']);
});

test('an abort after the work began is left to the work, and takes nobody else out of the queue', async () => {
  const queue = new WorkQueue({ all: 1, notUrgent: 1 });
  const { begun, add, end } = diaryOf(queue);
  const abort = new AbortController();
  const first = add('a', { signal: abort.signal });
  add('b');
  await settled();
  abort.abort();
  assert.equal(queue.waiting, 1);
  await end('a');
  await first;
  assert.deepEqual(begun, ['a', 'b']);
});

test('waiting ends with the signal, the work with itself', async () => {
  const abort = new AbortController();
  const { promise, resolve } = Promise.withResolvers<string>();
  const waiting = untilAborted(promise, abort.signal);
  abort.abort();
  await assert.rejects(waiting, { code: 'unavailable' });
  await assert.rejects(untilAborted(promise, abort.signal), { code: 'unavailable' });
  resolve('done');
  assert.equal(await untilAborted(promise, new AbortController().signal), 'done');
});

test('places for media: one a core, one of them for those who wait, and never more than eight', () => {
  assert.deepEqual(mediaPlaces(1), { all: 2, notUrgent: 1 });
  assert.deepEqual(mediaPlaces(4), { all: 4, notUrgent: 3 });
  assert.deepEqual(mediaPlaces(128), { all: 8, notUrgent: 7 });
});
