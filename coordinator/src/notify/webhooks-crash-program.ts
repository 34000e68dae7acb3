/**
 * A process that leads a farm of made-up jobs and delivers their webhooks until it is killed, for the crash test.
 * Arguments: path of the journal, URL of the receiver, term, and how many jobs to run.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { JobNotifier } from './job-notifier.ts';
import { testEndpoint, testFarm } from './test-notify.ts';
import { postNotice } from './webhook-post.ts';
import { Webhooks } from './webhooks.ts';

const [path = '', url = '', term = '', jobs = ''] = process.argv.slice(2);
const journal = await openSqliteJournal({ path });
const farm = await testFarm(journal, systemClock, Number(term));
const log = createLogger({ name: 'crash', level: 'error' });
const shell = { journal, jobs: farm.jobs, clock: systemClock, random: Math.random, log };
const webhooks = new Webhooks({ ...shell, post: postNotice, count: () => undefined }, [testEndpoint(url)]);
const notifier = new JobNotifier(webhooks, null);
farm.jobs.onEvent((job, event, at) => notifier.tell(job, event, at));
notifier.begin(Number(term));
for (let n = 0; n < Number(jobs); n++) {
  await farm.runToEnd(`job-${term}-${n}`, 3);
  await sleep(30);
}
await sleep(2 ** 31 - 1);
