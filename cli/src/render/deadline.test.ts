import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeadlineOutlook, type Job, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { job, plan, result } from '../testing/farm-fixtures.ts';
import { createLineLog } from '../watch/line-log.ts';
import { deadlineWarning, jobDeadline, plannedDeadline, shortDeadline } from './deadline.ts';
import { endReport, jobDetails } from './job-report.ts';
import { planReport } from './plan-report.ts';
import { progressSummary, renderProgress } from './progress.ts';
import { progressView } from './progress-view.ts';
import { createStyle } from './style.ts';

const plain = createStyle(false);
const deadline = { seconds: 1_893_456_600, nanos: 0 };
const WHEN = '2030-01-01T00:10:00Z';

function due(state: JobState, deadlineOutlook: DeadlineOutlook, deadlineMarginSeconds: number, etaSeconds = -1): Job {
  const base = job(state, { deadlineOutlook, deadlineMarginSeconds, etaSeconds });
  return { ...base, spec: { ...(base.spec ?? assert.fail()), deadline } };
}

const { DEADLINE_OUTLOOK_IN_TIME: IN_TIME, DEADLINE_OUTLOOK_LATE: LATE } = DeadlineOutlook;
const { DEADLINE_OUTLOOK_MET: MET, DEADLINE_OUTLOOK_MISSED: MISSED } = DeadlineOutlook;
const NOTHING = DeadlineOutlook.DEADLINE_OUTLOOK_UNSPECIFIED;
const { JOB_STATE_RENDERING: RENDERING, JOB_STATE_COMPLETED: COMPLETED, JOB_STATE_CANCELLED: CANCELLED } = JobState;

test('a job says how it stands to its deadline, and warns where that is missed', () => {
  const cases: [Job, said: string, warning: string | undefined, short: string][] = [
    [due(RENDERING, IN_TIME, 600, 20), 'kept by the forecast, with 10 min to spare', undefined, ''],
    [due(RENDERING, LATE, -34, 60), 'missed by the forecast, by 34 s', 'missed by the forecast, by 34 s', ' late'],
    [
      due(RENDERING, MISSED, -34, 10),
      'missed, by about 34 s in the end',
      'missed, by about 34 s in the end',
      ' missed',
    ],
    [due(RENDERING, MISSED, -34), 'missed, 34 s ago', 'missed, 34 s ago', ' missed'],
    [due(RENDERING, NOTHING, 0), 'no forecast now', undefined, ''],
    [due(COMPLETED, MET, 34, 0), 'met with 34 s to spare', undefined, ' met'],
    [due(COMPLETED, MISSED, -7200, 0), 'missed by 2 h', 'missed by 2 h', ' missed'],
  ];
  for (const [shown, said, warning, short] of cases) {
    assert.equal(jobDeadline(shown, plain), `${WHEN}, ${said}`);
    assert.equal(deadlineWarning(shown), warning && `the deadline ${WHEN} is ${warning}`);
    assert.equal(shortDeadline(shown), `2030-01-01T00:10Z${short}`);
    assert.match(jobDetails(shown, [], plain).join('\n'), new RegExp(`^ {2}deadline +${WHEN}, ${said}$`, 'm'));
  }
  assert.equal(jobDeadline(due(CANCELLED, NOTHING, 0), plain), WHEN, 'nobody knows what would have been');
  assert.equal(jobDeadline(job(RENDERING), plain), undefined);
  assert.equal(deadlineWarning(job(RENDERING)), undefined);
  assert.equal(shortDeadline(job(RENDERING)), '-');
});

test('the report at the end has the deadline, with a video and without', () => {
  for (const state of [COMPLETED, CANCELLED]) {
    const ended = { ...due(state, MISSED, -5), result: state === COMPLETED ? result('ab'.repeat(32), 9) : undefined };
    assert.match(endReport(ended, [], plain).join('\n'), /deadline +2030.*, missed by 5 s/);
  }
});

test('a deadline that no calendar has does no harm', () => {
  const shown = due(RENDERING, IN_TIME, 1e15, 20);
  const far = { ...shown, spec: { ...(shown.spec ?? assert.fail()), deadline: { seconds: 1e15, nanos: 0 } } };
  assert.match(jobDeadline(far, plain) ?? '', /^1000000000000000 s after 1970, kept/);
});

test('a plan says whether it keeps the deadline', () => {
  const planned = (deadlineOutlook: DeadlineOutlook, deadlineMarginSeconds: number) => ({
    ...plan(50, ['node-a']),
    deadlineOutlook,
    deadlineMarginSeconds,
  });
  const report = planReport(planned(LATE, -90), deadline, [], plain).join('\n');
  assert.match(report, /^ {2}deadline +2030-01-01T00:10:00Z, missed by the forecast, by 2 min$/m);
  assert.match(
    plannedDeadline(deadline, planned(IN_TIME, 30), plain) ?? '',
    /, kept by the forecast, with 30 s to spare$/,
  );
  assert.match(plannedDeadline(deadline, planned(NOTHING, 0), plain) ?? '', /, no forecast now$/);
  assert.doesNotMatch(planReport(planned(NOTHING, 0), undefined, [], plain).join('\n'), /deadline/);
});

test('who watches a job is told that it will miss its deadline as soon as that is so', () => {
  const view = (outlook: DeadlineOutlook) => progressView(due(RENDERING, outlook, -34, 60), []);
  const lines = renderProgress(view(LATE), { width: 100, slotLines: 8, staleSeconds: 0 }, plain);
  assert.match(lines.at(-1) ?? '', /^the deadline .* is missed by the forecast, by 34 s$/);
  assert.match(progressSummary(view(LATE)), / {2}the deadline .* is missed by the forecast, by 34 s$/);
  const log = createLineLog(0);
  log.job(view(IN_TIME), 0);
  assert.match(log.job(view(LATE), 1) ?? '', /the deadline/);
});
