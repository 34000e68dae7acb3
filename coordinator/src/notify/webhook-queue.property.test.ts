import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import fc from 'fast-check';
import { noticesAfter } from './notice-history.ts';
import { RESULT, type TestFarm } from './test-notify.ts';
import { DOWN, lead, NO, OK, openJournal, type Stage } from './test-webhooks.ts';
import type { PostAnswer } from './webhook-post.ts';

type Step =
  | { readonly step: 'submit' | 'pause' | 'resume' | 'cancel' | 'retry' | 'render' | 'complete'; readonly job: number }
  | { readonly step: 'pass'; readonly millis: number }
  | { readonly step: 'handOver' | 'crash' };

const work = fc.constantFrom('submit', 'submit', 'pause', 'resume', 'cancel', 'retry', 'render', 'render', 'complete');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ step: work, job: fc.nat(3) }) as fc.Arbitrary<Step> },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('pass' as const), millis: fc.constantFrom(1000, 5000) }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constantFrom('handOver' as const, 'crash' as const) }) },
);

async function workOn(farm: TestFarm, { step: asked, job }: Extract<Step, { job: number }>): Promise<void> {
  const jobId = `job-${job}`;
  const known = farm.jobs.get(jobId);
  if (asked === 'submit') return known ? undefined : await farm.submit(jobId, 6);
  if (!known) return;
  if (asked === 'render') {
    if (known.status === 'active' && !known.paused) await farm.render(jobId, 2);
  } else if (asked === 'pause') {
    await farm.command(jobId, { type: 'pause', reason: '', currentClips: new Map() });
  } else if (asked === 'complete') {
    await farm.command(jobId, { type: 'complete', result: RESULT });
  } else if (asked === 'cancel') {
    await farm.command(jobId, { type: 'cancel', reason: '' });
  } else await farm.command(jobId, { type: asked });
}

test('whatever fails, and whoever leads, every notice arrives, and none before those that came before it', async (t) => {
  const run = async (steps: readonly Step[], answers: readonly PostAnswer[]) => {
    const journal = await openJournal(t);
    const clock = new ManualClock();
    const arrived: string[] = [];
    let posts = 0;
    let smooth = false;
    const answer: Stage['answer'] = ({ id }) => {
      const said = smooth ? OK : (answers[posts++ % answers.length] ?? OK);
      if (said === OK) arrived.push(id);
      return said;
    };
    const take = (term: number) => lead(t, { journal, clock, term, answer });
    let term = 1;
    let stage = await take(term);
    for (const asked of steps) {
      if (asked.step === 'pass') await stage.pass(asked.millis);
      else if ('job' in asked) await workOn(stage.farm, asked);
      else {
        if (asked.step === 'handOver') await stage.webhooks.end();
        else stage.answer = () => new Promise(() => undefined);
        stage = await take(++term);
      }
    }
    smooth = true;
    await stage.pass(120_000);
    assert.equal(stage.webhooks.pending, 0);
    for (const job of stage.farm.jobs.all()) {
      const { jobId } = job.definition;
      const history = { journal, jobId, signal: new AbortController().signal };
      const all = (await noticesAfter(history, 0, 1000)).notices.map(({ notice }) => notice.id);
      const first = [...new Set(arrived.filter((id) => id.startsWith(`${jobId}/`)))];
      assert.deepEqual(first, all);
    }
    return arrived.length;
  };
  const answer = fc.constantFrom(OK, OK, OK, NO, DOWN);
  const steps = fc.array(step, { minLength: 5, maxLength: 25, size: 'max' });
  let delivered = 0;
  await fc.assert(
    fc.asyncProperty(steps, fc.array(answer, { minLength: 1, maxLength: 9 }), async (asked, answers) => {
      delivered += await run(asked, answers);
    }),
    { numRuns: 40 },
  );
  assert.ok(delivered > 40, 'nothing much was delivered');
});
