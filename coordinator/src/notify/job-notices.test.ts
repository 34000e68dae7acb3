import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JobCommand } from '../core/decide.ts';
import { evolve } from '../core/evolve.ts';
import type { JobEvent } from '../core/job-events.ts';
import type { JobState } from '../core/job-model.ts';
import { pendingClips, uncommittedClips } from '../core/job-progress.ts';
import { isFinal, noticeTypes } from '../core/notice-type.ts';
import { contentRef, execute, jobDefinition, type LoggedEvent, type LoggedJob, submitJob } from '../core/test-jobs.ts';
import { type JobNotice, noticeOf } from './job-notices.ts';

const result = { video: contentRef('v'), frames: 9, videoSeconds: 1, audioSeconds: 2, finishMillis: 1, checks: [] };

/** What is asked of a job, fitted to the state in which it is asked. */
type Ask = 'grant' | 'commit' | JobCommand;

const ask: fc.Arbitrary<Ask> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Ask>('grant') },
  { weight: 20, arbitrary: fc.constant<Ask>('commit') },
  {
    weight: 3,
    arbitrary: fc.constantFrom<Ask>(
      { type: 'pause', reason: 'lunch', currentClips: new Map() },
      { type: 'resume' },
      { type: 'cancel', reason: 'by ann' },
      { type: 'retry' },
      { type: 'retry' },
      { type: 'setPriority', priority: 3 },
      { type: 'complete', result },
      { type: 'fail', reason: 'no slot fits' },
    ),
  },
);

function commandOf(asked: Ask, state: JobState, step: number): JobCommand | null {
  if (asked === 'grant') {
    const gap = pendingClips(state)[0];
    if (!gap) return null;
    const preRoll = gap.start === 0 ? 0 : 1;
    const identity = { leaseId: `l${step}`, nodeId: 'n', slotId: 's', profile: 'p', speculative: false };
    return { type: 'grant', reason: 'test', lease: { ...identity, ...gap, preRoll } };
  }
  if (asked !== 'commit') return asked;
  const lease = [...state.leases.values()][0];
  const clip = lease && uncommittedClips(state).find((range) => range.end > lease.start)?.start;
  if (lease === undefined || clip === undefined) return null;
  const chunk = { leaseId: lease.leaseId, clip: Math.max(clip, lease.start), frames: 48, headerHash: 'h' };
  return { type: 'commit', chunk: { ...chunk, chunk: contentRef(`c${step}`) } };
}

const history = fc
  .record({ clips: fc.integer({ min: 1, max: 90 }), asks: fc.array(ask, { maxLength: 200, size: 'max' }) })
  .map(({ clips, asks }): LoggedJob => {
    const job = submitJob({ clips, prompt: 'canary prompt', name: 'a "talk"', notes: ['canary note'] });
    for (const [step, asked] of asks.entries()) {
      const command = commandOf(asked, job.state, step);
      if (command) execute(job, command, step * 1000);
    }
    return job;
  });

function noticesOf(log: readonly LoggedEvent[]): JobNotice[] {
  let job: JobState | null = null;
  return log.flatMap(({ event, at }) => {
    job = evolve(job, event, at);
    return noticeOf(job, event, at) ?? [];
  });
}

/** A notice for exactly these events, and one for clips that complete another twentieth. */
const always: { readonly [E in JobEvent['type']]?: JobNotice['type'] } = {
  JobSubmitted: 'job.accepted',
  JobPaused: 'job.paused',
  JobResumed: 'job.resumed',
  JobCompleted: 'job.completed',
  JobFailed: 'job.failed',
  JobCancelled: 'job.cancelled',
  JobRetried: 'job.retried',
};

test('whatever happens to a job, its notices tell it in order, once, and without the prompt', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(history, ({ log, state }) => {
      const { clips, jobId } = state.definition;
      const notices = noticesOf(log);
      for (const { type } of notices) seen.add(type);
      const text = JSON.stringify(notices);
      assert.doesNotMatch(text, /canary/);
      assert.deepEqual(
        noticesOf(JSON.parse(JSON.stringify(log)) as LoggedEvent[]),
        notices,
        'a new leader says the same',
      );

      const positions = notices.map(({ id }) => Number(id.slice(`${jobId}/`.length)));
      assert.deepEqual(
        positions,
        [...new Set(positions)].sort((a, b) => a - b),
      );
      const told = new Map(positions.map((position, i) => [position, notices[i]?.type]));
      for (const [index, { event }] of log.entries()) {
        const type = told.get(index + 1);
        if (event.type === 'LeaseGranted') assert.equal(type, event.lease.span === 0 ? 'job.started' : undefined);
        else if (event.type !== 'ClipCommitted') assert.equal(type, always[event.type], event.type);
      }

      const progress = notices.filter(({ type }) => type === 'job.progress').map(({ job }) => job.clips_committed);
      const steps = progress.map((count) => Math.floor((20 * count) / clips));
      assert.deepEqual(steps, [...new Set(steps)], 'each twentieth is told once');
      const reached = Math.floor((20 * log.filter(({ event }) => event.type === 'ClipCommitted').length) / clips);
      assert.equal(steps.at(-1) ?? 0, reached, 'and none is left out');

      for (const [index, { type, job, at }] of notices.entries()) {
        if (isFinal(type)) {
          assert.equal(`job.${job.state}`, type);
          assert.equal(job.finished_at, at);
          const next = notices[index + 1];
          assert.ok(!next || next.type === 'job.retried', `${next?.type} after ${type}`);
        }
        assert.equal(job.result !== null, type === 'job.completed');
        assert.equal(
          job.state === 'paused',
          type === 'job.paused' || (type === 'job.progress' && job.state === 'paused'),
        );
      }
    }),
    { numRuns: 200 },
  );
  assert.deepEqual([...seen].sort(), [...noticeTypes].sort(), 'every type occurred');
});

test('a notice has the documented shape', () => {
  const job = submitJob({ clips: 2, deadline: 60_000 }, 7, 1000);
  const [accepted] = noticesOf(job.log);
  assert.deepEqual(accepted, {
    version: 1,
    id: 'job-1/1',
    type: 'job.accepted',
    at: '1970-01-01T00:00:01.000Z',
    job: {
      id: 'job-1',
      name: 'a talk',
      owner: 'ann',
      state: 'queued',
      reason: '',
      priority: 7,
      width: 704,
      height: 384,
      frames: 96,
      clips: 2,
      clips_committed: 0,
      submitted_at: '1970-01-01T00:00:01.000Z',
      deadline: '1970-01-01T00:01:00.000Z',
      started_at: null,
      finished_at: null,
      result: null,
    },
  });
});

test('a long reason is cut, and a deadline beyond the end of time does no harm', () => {
  const job = submitJob({ deadline: Number.MAX_SAFE_INTEGER });
  execute(job, { type: 'fail', reason: `${'x'.repeat(999)}😀` });
  const last = noticesOf(job.log).at(-1);
  assert.equal(last?.job.reason, `${'x'.repeat(999)}\ufffd`);
  assert.equal(last?.job.deadline, '+275760-09-13T00:00:00.000Z');
});

test('a clip that was lost and rendered again may tell its twentieth again, under another name', () => {
  const definition = jobDefinition({ clips: 20 });
  const record = { clip: 0, leaseId: 'l', span: 0, nodeId: 'n', slotId: 's', chunk: contentRef('c'), frames: 48 };
  const committed: JobEvent = { type: 'ClipCommitted', record, headerHash: 'h' };
  const events: JobEvent[] = [
    { type: 'JobSubmitted', definition, priority: 0 },
    committed,
    { type: 'ClipLost', clip: 0, reason: 'the store lost it' },
    committed,
  ];
  const notices = noticesOf(events.map((event, at) => ({ event, at })));
  assert.deepEqual(
    notices.map(({ id, type, job }) => [id, type, job.clips_committed]),
    [
      ['job-1/1', 'job.accepted', 0],
      ['job-1/2', 'job.progress', 1],
      ['job-1/4', 'job.progress', 1],
    ],
  );
});
