import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { packJob } from '../core/job-snapshot.ts';
import { MemoryJournal } from '../farm/farm-fixture.ts';
import { noticesAfter } from './notice-history.ts';
import { RESULT, testFarm } from './test-notify.ts';

/** A journal that notes from where it is read. */
class CountingJournal extends MemoryJournal {
  readonly reads: number[] = [];

  override read(stream: string, fromPosition: number) {
    this.reads.push(fromPosition);
    return super.read(stream, fromPosition);
  }
}

test('the notices after any position are the same whether a snapshot is there to begin with or not', async () => {
  const journal = new CountingJournal();
  const { jobs, submit, render, command } = await testFarm(journal, new ManualClock());
  const history = { journal, jobId: 'a', signal: new AbortController().signal };
  /** What the snapshots would be, by position. */
  const snapshots = new Map<number, unknown>();
  jobs.onEvent((job) => snapshots.set(job.revision, structuredClone(packJob(job))));
  await submit('a', 40);
  await render('a', 25);
  await command('a', { type: 'pause', reason: 'lunch', currentClips: new Map() });
  await command('a', { type: 'resume' });
  await render('a', 15);
  await command('a', { type: 'complete', result: RESULT });
  const end = jobs.find('a').revision;
  const whole = await noticesAfter(history, 0, 1000);
  assert.equal(whole.notices.length, 25);
  for (const [at, state] of snapshots) {
    await journal.saveSnapshot('jobs/a', at, { term: 1, state });
    for (const position of [1, at - 1, at, at + 1, end]) {
      journal.reads.length = 0;
      const { notices } = await noticesAfter(history, position, 1000);
      assert.deepEqual(
        notices,
        whole.notices.filter((notice) => notice.position > position),
        `after ${position}, with a snapshot of ${at}`,
      );
      assert.deepEqual(journal.reads, [position >= at && position > 0 ? at + 1 : 1]);
    }
  }
});
