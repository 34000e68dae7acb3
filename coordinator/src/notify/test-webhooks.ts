import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ManualClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import type { Journal } from '../journal/journal.ts';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import type { JobNotice } from './job-notices.ts';
import { JobNotifier } from './job-notifier.ts';
import { type TestFarm, testEndpoint, testFarm } from './test-notify.ts';
import type { PostAnswer } from './webhook-post.ts';
import type { WebhookOutcome } from './webhook-queue.ts';
import { Webhooks } from './webhooks.ts';

/** Webhooks on a stage of virtual time, for tests; nothing of the product uses this file. */

/** It was taken. */
export const OK: PostAnswer = { outcome: 'delivered' };
/** The endpoint is not there. */
export const DOWN: PostAnswer = { outcome: 'unreachable', reason: 'no answer' };
/** The endpoint does not want this one. */
export const NO: PostAnswer = { outcome: 'refused', reason: 'status 400' };

/** A coordinator's webhooks with a post that the test decides about. */
export interface Stage {
  readonly farm: TestFarm;
  readonly webhooks: Webhooks;
  readonly clock: ManualClock;
  readonly journal: Journal;
  /** Everything that was posted, delivered or not. */
  readonly posted: JobNotice[];
  readonly counts: Map<WebhookOutcome, number>;
  readonly log: string[];
  answer: (notice: JobNotice, endpointId: string) => PostAnswer | Promise<PostAnswer>;
  /** Lets everything happen that needs no time. */
  settle(): Promise<void>;
  /** Lets time pass, second by second. */
  pass(millis: number): Promise<void>;
}

/** What to begin with; by default an empty farm in its first term, with one endpoint that takes everything. */
export interface StageOptions {
  readonly journal?: Journal;
  readonly clock?: ManualClock;
  readonly term?: number;
  readonly endpoints?: readonly string[];
  readonly answer?: Stage['answer'];
}

/** A journal that is closed after the test. */
export async function openJournal(t: TestContext): Promise<Journal> {
  const journal = await openSqliteJournal({ path: join(temporaryDirectory(t), 'journal.db') });
  t.after(() => journal.close());
  return journal;
}

/** Begins to lead; what is told from now on goes to the endpoints. */
export async function lead(t: TestContext, options: StageOptions = {}): Promise<Stage> {
  const { clock = new ManualClock(), term = 1, endpoints = ['one'] } = options;
  const journal = options.journal ?? (await openJournal(t));
  const farm = await testFarm(journal, clock, term);
  const posted: JobNotice[] = [];
  const counts = new Map<WebhookOutcome, number>();
  const log: string[] = [];
  let inHand = 0;
  const webhooks = new Webhooks(
    {
      journal,
      jobs: farm.jobs,
      clock,
      random: () => 0,
      post: async (endpoint, { id, body }, _now, signal) => {
        const notice = JSON.parse(body) as JobNotice;
        assert.equal(id, notice.id);
        posted.push(notice);
        inHand += 1;
        const stopped = new Promise<PostAnswer>((resolve) => signal.addEventListener('abort', () => resolve(DOWN)));
        const answer = await Promise.race([stage.answer(notice, endpoint.id), stopped]);
        inHand -= 1;
        return answer;
      },
      count: (outcome) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1),
      log: createLogger({ name: 'test', level: 'debug', destination: { write: (line) => void log.push(line) } }),
    },
    endpoints.map((id) => testEndpoint(`http://${id}.example/canary?key=canary`, { id })),
  );
  const notifier = new JobNotifier(webhooks, null);
  farm.jobs.onEvent((job, event, at) => notifier.tell(job, event, at));
  const settle = async () => {
    for (let still = 0, last = ''; still < 8; ) {
      await setImmediate();
      const now = JSON.stringify([posted.length, webhooks.pending, inHand, clock.pending]);
      still = now === last ? still + 1 : 0;
      last = now;
    }
  };
  const stage: Stage = {
    farm,
    webhooks,
    clock,
    journal,
    posted,
    counts,
    log,
    answer: options.answer ?? (() => OK),
    settle,
    pass: async (millis) => {
      for (let left = millis; left > 0; left -= 1000) {
        clock.advance(Math.min(1000, left));
        await settle();
      }
    },
  };
  notifier.begin(term);
  t.after(() => notifier.end());
  await settle();
  return stage;
}
