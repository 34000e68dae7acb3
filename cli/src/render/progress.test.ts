import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { halfDone, job, lease, node, plan, span } from '../testing/farm-fixtures.ts';
import { progressSummary, renderProgress } from './progress.ts';
import { progressView } from './progress-view.ts';
import { createStyle } from './style.ts';
import { widthOf } from './text.ts';

const golden = (name: string) => join(import.meta.dirname, 'golden', name);
const asText = { serializers: [(lines: string[]) => `${lines.join('\n')}\n`] };
const plain = createStyle(false);

for (const width of [60, 80, 120]) {
  test(`the live display at ${width} columns is the one in golden/progress-${width}.txt`, (t) => {
    const { job: half, nodes } = halfDone();
    const lines = renderProgress(progressView(half, nodes), { width, slotLines: 8, staleSeconds: 0 }, plain);
    t.assert.fileSnapshot(lines, golden(`progress-${width}.txt`), asText);
  });
}

test('nothing is drawn beyond the width of the terminal, down to 40 columns', () => {
  const { job: half, nodes } = halfDone();
  const long = { ...half, spec: { ...required(half.spec), name: 'a talk with quite a long name 日本語日本語日本語' } };
  for (let width = 40; width <= 200; width += 1) {
    for (const line of renderProgress(progressView(long, nodes), { width, slotLines: 8, staleSeconds: 0 }, plain)) {
      assert.ok(widthOf(line) <= width, `${width} columns: ${line}`);
    }
  }
});

test('a job that does not get on says why, also while it renders', () => {
  for (const state of [JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PAUSED, JobState.JOB_STATE_RENDERING]) {
    const view = progressView(job(state, { stateReason: 'the disk is full' }), []);
    const lines = renderProgress(view, { width: 80, slotLines: 8, staleSeconds: 0 }, plain);
    assert.equal(lines.at(-1), 'the disk is full');
    assert.match(progressSummary(view), / {2}the disk is full$/);
  }
  const over = progressView(job(JobState.JOB_STATE_CANCELLED, { stateReason: 'by the user' }), []);
  assert.doesNotMatch(progressSummary(over), /by the user/);
});

test('working slots are shown before idle ones when there are too many', () => {
  const held = lease('node-z', 0, 50, 3);
  const nodes = [node('node-a', 'a'), node('node-b', 'b'), node('node-c', 'c'), node('node-z', 'z', held)];
  const ids = nodes.map(({ nodeId }) => nodeId);
  const rendering = job(JobState.JOB_STATE_RENDERING, { plan: plan(50, ids), leases: [held] });
  const lines = renderProgress(progressView(rendering, nodes), { width: 80, slotLines: 2, staleSeconds: 0 }, plain);
  const text = lines.join('\n');
  assert.match(text, /^D z +clips 0-49/m);
  assert.match(text, /and 2 slots more, 0 of them working/);
});

test('forecasts go down while nothing new is heard', () => {
  const { job: half, nodes } = halfDone();
  const view = progressView(half, nodes);
  const text = renderProgress(view, { width: 80, slotLines: 8, staleSeconds: 6 }, plain).join('\n');
  assert.match(text, /0:15 left/);
  assert.match(text, /clips 0-23 .* 0:01 left/);
});

test('a slot keeps its colour and letter whatever the order of nodes, and strangers do not show', () => {
  const { job: half, nodes } = halfDone();
  const shuffled = [node('node-x', 'another farm host'), ...[...nodes].reverse()];
  const names = (known: typeof nodes) =>
    progressView(half, known).slots.map(({ label, letter, owner }) => `${letter}${owner} ${label}`);
  assert.deepEqual(names(shuffled), ['A0 fast', 'B1 medium', 'C2 slow']);
  assert.deepEqual(names(nodes), names(shuffled));
});

test('slots that only the job knows are named by their identity', () => {
  const { job: half } = halfDone();
  assert.deepEqual(
    progressView(half, []).slots.map(({ label }) => label),
    ['node-a/gpu0', 'node-b/gpu0', 'node-c/gpu0'],
  );
});

test('nodes that a new leader knows, but not yet the slots of, keep their names, letters and colours', () => {
  const { job: half, nodes } = halfDone();
  const waiting = nodes.map((known) => ({ ...known, slots: [] }));
  const names = (known: typeof nodes) =>
    progressView(half, known).slots.map(({ label, letter, owner }) => `${letter}${owner} ${label}`);
  assert.deepEqual(names(waiting), names(nodes));
  const [first] = half.leases;
  assert.ok(first);
  const two = { ...half, leases: [...half.leases, { ...first, slotId: 'gpu1' }] };
  assert.deepEqual(
    progressView(two, waiting).slots.map(({ label }) => label),
    ['fast/gpu0', 'fast/gpu1', 'medium', 'slow'],
  );
});

test('what a slot does is told: loading, pre-roll, clip, duplicate', () => {
  const held = { ...lease('node-a', 10, 20, 9), speculative: true };
  const doing = (current: number, state: SlotState = SlotState.SLOT_STATE_RENDERING) => {
    const now = { ...held, currentClip: current };
    const rendering = job(JobState.JOB_STATE_RENDERING, { leases: [now] });
    const on = node('node-a', 'a', now, 0.5);
    const slots = on.slots.map((slot) => ({ ...slot, state }));
    return progressView(rendering, [{ ...on, slots }]).slots[0]?.doing;
  };
  assert.equal(doing(9), 'pre-roll 9 50%');
  assert.equal(doing(12), 'clip 12 50% (duplicate)');
  assert.equal(doing(9, SlotState.SLOT_STATE_LOADING), 'loads the model');
});

test('after the end every slot says how many clips are its own', () => {
  const done = job(JobState.JOB_STATE_COMPLETED, {
    spans: [span('node-a', 0, 30), span('node-b', 30, 50)],
    plan: plan(50, ['node-a', 'node-b']),
  });
  const { slots } = progressView(done, [node('node-a', 'a'), node('node-b', 'b')]);
  assert.deepEqual(
    slots.map((slot) => slot.doing),
    ['30 clips', '20 clips'],
  );
});

test('one line tells the same for a log', () => {
  const { job: half, nodes } = halfDone();
  assert.equal(
    progressSummary(progressView(half, nodes)),
    'rendering  23/50 clips  46%  1.4x real time  0:21 left  ' +
      'fast 0-23 clip 16 45%  medium 24-38 clip 31 80%  slow 39-49 pre-roll 38 20%',
  );
});

function required<T>(value: T | undefined): T {
  assert.ok(value !== undefined);
  return value;
}
