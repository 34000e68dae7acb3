import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { openSqliteJournal } from '../journal/sqlite-journal.ts';
import { noticesAfter } from './notice-history.ts';
import { isSigned, SECRET, startReceiver } from './test-notify.ts';

const program = fileURLToPath(new URL('./webhooks-crash-program.ts', import.meta.url));

function start(t: TestContext, args: readonly (string | number)[]): ChildProcess {
  const child = spawn(process.execPath, [program, ...args.map(String)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

test('a coordinator that is killed again and again delivers everything, each job in order', {
  timeout: 60_000,
}, async (t) => {
  const path = join(temporaryDirectory(t), 'journal.db');
  // Some notices it does not take at first.
  const seen = new Set<string>();
  const receiver = await startReceiver(t, ({ notice }, response) => {
    const again = seen.has(notice.id);
    seen.add(notice.id);
    if (!again && seen.size % 13 === 5) response.destroy();
    else if (!again && seen.size % 17 === 3) response.writeHead(500).end();
    else response.writeHead(204).end();
  });
  for (let term = 1; term <= 3; term++) {
    const already = receiver.got.length;
    const child = start(t, [path, receiver.url, term, 1_000_000]);
    const exited = once(child, 'exit');
    await Promise.race([receiver.until((got) => got.length >= already + 30 * term), exited]);
    assert.equal(child.exitCode, null, 'it runs until it is killed');
    child.kill('SIGKILL');
    await exited;
  }
  const last = start(t, [path, receiver.url, 4, 0]);
  assert.ok(last.stdout);
  const [line] = await once(last.stdout, 'data');
  assert.match(String(line), /told everything/);
  last.kill('SIGKILL');
  await once(last, 'exit');

  const journal = await openSqliteJournal({ path });
  t.after(() => journal.close());
  const jobIds = (await journal.streams()).flatMap(({ stream }) =>
    stream.startsWith('jobs/') ? [stream.slice(5)] : [],
  );
  assert.ok(jobIds.length > 10, `only ${jobIds.length} jobs`);
  const bodies = new Map<string, string>();
  for (const { body, notice, headers } of receiver.got) {
    assert.equal(headers['clipfarm-delivery'], notice.id);
    assert.ok(isSigned(String(headers['clipfarm-signature']), body, SECRET));
    assert.equal(bodies.get(notice.id) ?? body, body, 'a repetition is the same, byte for byte');
    bodies.set(notice.id, body);
  }
  for (const jobId of jobIds) {
    const { notices } = await noticesAfter({ journal, jobId, signal: new AbortController().signal }, 0, 1000);
    const expected = notices.map(({ notice }) => JSON.stringify(notice));
    assert.deepEqual(
      [...bodies].flatMap(([id, body]) => (id.startsWith(`${jobId}/`) ? [body] : [])),
      expected,
      jobId,
    );
  }
});
