import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { noticesAfter } from './notice-history.ts';
import { isSigned, type Received, SECRET, startReceiver } from './test-notify.ts';

const program = fileURLToPath(new URL('./webhooks-crash-program.ts', import.meta.url));

/** Body of every notice that there is to tell, by job, in order. */
async function toldByJournal(path: string): Promise<Map<string, string[]>> {
  const journal = await openSqliteJournal({ path });
  const told = new Map<string, string[]>();
  for (const { stream } of await journal.streams()) {
    const jobId = /^jobs\/(.*)/.exec(stream)?.[1];
    if (jobId === undefined) continue;
    const { notices } = await noticesAfter({ journal, jobId, signal: new AbortController().signal }, 0, 1000);
    told.set(
      jobId,
      notices.map(({ notice }) => JSON.stringify(notice)),
    );
  }
  await journal.close();
  return told;
}

test('a coordinator that is killed again and again delivers everything, each job in order', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  // Some notices it does not take at first: few, because the endpoint, or the job, is then left alone for a while.
  const seen = new Set<string>();
  const receiver = await startReceiver(t, ({ notice }, response) => {
    const again = seen.has(notice.id);
    seen.add(notice.id);
    if (!again && seen.size % 40 === 5) response.destroy();
    else if (!again && seen.size % 30 === 3) response.writeHead(500).end();
    else response.writeHead(204).end();
  });
  const runUntil = async (term: number, jobs: number, enough: (got: readonly Received[]) => boolean) => {
    const args = [program, path, receiver.url, String(term), String(jobs)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    await Promise.race([receiver.until(enough), exited]);
    assert.equal(child.exitCode, null, 'it runs until it is killed');
    child.kill('SIGKILL');
    await exited;
  };
  for (let term = 1; term <= 3; term++) {
    const before = receiver.got.length;
    await runUntil(term, 1_000_000, (got) => got.length >= before + 30 * term);
  }
  const expected = await toldByJournal(path);
  assert.ok(expected.size > 10, `only ${expected.size} jobs`);
  const bodies = [...expected.values()].flat();
  await runUntil(4, 0, (got) => new Set(got.map(({ body }) => body)).size >= bodies.length);

  for (const { body, notice, headers } of receiver.got) {
    assert.equal(headers['clipfarm-delivery'], notice.id);
    assert.ok(isSigned(String(headers['clipfarm-signature']), body, SECRET));
  }
  for (const [jobId, told] of expected) {
    const got = receiver.got.filter(({ notice }) => notice.job.id === jobId).map(({ body }) => body);
    assert.deepEqual([...new Set(got)], told, 'each is the same in every repetition, and none came before its time');
  }
});
