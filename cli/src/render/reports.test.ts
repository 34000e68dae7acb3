import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { NodeState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { fit, job, node, plan, result, span } from '../testing/farm-fixtures.ts';
import { endReport, jobDetails } from './job-report.ts';
import { isFeasible, planAdvice, planReport } from './plan-report.ts';
import { createStyle, wantsColor } from './style.ts';
import { table } from './table.ts';

const golden = (name: string) => join(import.meta.dirname, 'golden', name);
const asText = { serializers: [(lines: string[]) => `${lines.join('\n')}\n`] };
const plain = createStyle(false);
const nodes = [node('node-a', 'fast'), node('node-b', 'slow')];

const finished = job(JobState.JOB_STATE_COMPLETED, {
  startedAt: { seconds: 1_893_456_002, nanos: 0 },
  finishedAt: { seconds: 1_893_456_042, nanos: 500_000_000 },
  clipsCommitted: 50,
  clipsPrefix: 50,
  spans: [span('node-a', 0, 30), span('node-b', 30, 45), span('node-a', 45, 50)],
  result: result('ab'.repeat(32), 12_345_678),
});

test('the end report of a completed job has length, time, shares and checks', (t) => {
  t.assert.fileSnapshot(endReport(finished, nodes, plain), golden('end-report.txt'), asText);
});

test('the shares of a video come to 100 percent', () => {
  const spans = [span('node-a', 0, 18), span('node-b', 18, 27), span('node-c', 27, 32)];
  const report = endReport({ ...finished, spans }, nodes, plain).join('\n');
  assert.match(report, /fast {4}18 clips, 56%\n {2}slow {4}9 clips, 28%\n {2}node-c {2}5 clips, 16%/);
});

test('the details of a job say where it stands', (t) => {
  const rendering = { ...finished, state: JobState.JOB_STATE_RENDERING, result: undefined, clipsCommitted: 23 };
  const lines = jobDetails({ ...rendering, clipsPrefix: 10, etaSeconds: 12, speed: 1.4 }, nodes, plain);
  t.assert.fileSnapshot(lines, golden('job-details.txt'), asText);
});

test('a failed job shows its reason and the evidence', () => {
  const failed = job(JobState.JOB_STATE_FAILED, {
    stateReason: 'clip 7 failed on three nodes',
    failures: [
      {
        nodeId: 'node-a',
        slotId: 'gpu0',
        clip: 7,
        failureClass: 'out of memory',
        message: 'CUDA\u001b[31m out of memory',
      },
    ],
  });
  const text = endReport(failed, nodes, plain).join('\n');
  assert.match(endReport(failed, [], plain).join('\n'), /node-a\/gpu0 +7/, 'without names, by identity');
  assert.match(text, /^failed {2}talk {2}job-1$/m);
  assert.match(text, /clip 7 failed on three nodes/);
  assert.match(text, /fast\/gpu0 +7 +out of memory +CUDA out of memory/);
});

test('a plan says which slots fit and why others do not', (t) => {
  const refused = { ...fit('node-b', 4), fits: false, detail: '66 units of 64x64 need 45 GiB, 24 GiB are there' };
  const mixed = { ...plan(50, ['node-a']), notes: ['base_seed -1 means that a seed is drawn, as upstream does.'] };
  const lines = planReport({ ...mixed, fits: [refused, ...mixed.fits] }, undefined, nodes, plain);
  t.assert.fileSnapshot(lines, golden('plan-report.txt'), asText);
});

for (const [what, fits, word, text, advice] of [
  ['knows no slot', [], null, 'none: no slot is known', /Start an agent: clipfarm agent --coordinator farm:7400;/],
  ['fits nowhere', [{ fits: false, unavailable: 'its node is drained' }], 'no', 'none: no slot fits', /^$/],
  [
    'fits a drained node only',
    [{ unavailable: 'its node is drained: new disk' }, { fits: false }],
    'not now',
    'none now: no slot that fits takes work',
    /^Let fast work again: clipfarm node undrain fast$/,
  ],
] as const) {
  test(`a plan that ${what} says so in its forecast and its table, is not feasible, and what to do is said`, () => {
    const drained = nodes.map((one) => ({ ...one, state: NodeState.NODE_STATE_DRAINING }));
    const known = fits.map((rest, n) => ({ ...fit(n === 0 ? 'node-a' : 'node-b'), ...rest }));
    const none = { ...plan(50, []), fits: known, forecastSeconds: 0 };
    assert.equal(isFeasible(none), false);
    const report = planReport(none, undefined, drained, plain).join('\n');
    assert.match(report, new RegExp(`^  forecast  ${text}$`, 'm'));
    if (word === null) assert.doesNotMatch(report, /FITS/);
    else assert.match(report, new RegExp(`^  ${word} +fast/gpu0 `, 'm'));
    assert.match(planAdvice(none, fits.length === 0 ? [] : drained, 'farm:7400', plain).join('\n'), advice);
  });
}

test('a plan for slots that are busy is feasible, without a forecast', () => {
  const busy = { ...plan(50, ['node-a']), forecastSeconds: 0 };
  assert.equal(isFeasible(busy), true);
  const report = planReport(busy, undefined, nodes, plain).join('\n');
  assert.match(report, /forecast {2}not known now: every slot that fits is busy or starts$/m);
  assert.deepEqual(planAdvice(busy, nodes, 'farm:7400', plain), []);
});

test('a table cuts, pads and aligns its cells, wide characters included', () => {
  const rows = [
    { name: '日本', count: 5 },
    { name: 'a very long name', count: 12_345 },
  ];
  const columns = [
    { title: 'NAME', cell: (row: (typeof rows)[number]) => row.name, max: 8 },
    { title: 'N', cell: (row: (typeof rows)[number]) => String(row.count), align: 'right' as const },
  ];
  assert.deepEqual(table(rows, columns, plain), ['NAME          N', '日本          5', 'a very …  12345']);
});

test('colours need a terminal, and NO_COLOR or --color never turns them off', () => {
  assert.equal(wantsColor({ when: 'auto', isTTY: true, plain: false }), true);
  assert.equal(wantsColor({ when: 'auto', isTTY: false, plain: false }), false);
  assert.equal(wantsColor({ when: 'auto', isTTY: true, plain: true }), false);
  assert.equal(wantsColor({ when: 'always', isTTY: false, plain: true }), true);
  assert.equal(wantsColor({ when: 'never', isTTY: true, plain: false }), false);
  assert.notEqual(createStyle(true).owner(1)('x'), createStyle(true).owner(0)('x'));
  assert.equal(createStyle(false).owner(1)('x'), 'x');
});
