import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { MemoryJournal } from '../farm/farm-fixture.ts';
import { watchedJournal } from './watched-journal.ts';

const meta = { at: 0, term: 1 };
const event = { type: 'n', data: {} };

test('an append that is not stored is told and logged with its reason; one that is stored is not', async () => {
  const journal = new MemoryJournal();
  const told: string[] = [];
  const logged: unknown[] = [];
  const write = (line: string) => logged.push((JSON.parse(line) as { why?: string }).why);
  const log = createLogger({ name: 'test', level: 'debug', destination: { write } });
  const watched = watchedJournal(journal, (why) => told.push(why), log);
  assert.equal(await watched.append('s', 0, [event], meta), 1);
  assert.deepEqual(told, []);
  await assert.rejects(watched.append('s', 0, [event], meta), { code: 'conflict' });
  journal.append = () => Promise.reject(new FarmError('unavailable', 'no answer'));
  await assert.rejects(watched.append('s', 1, [event], meta), { code: 'unavailable' });
  assert.deepEqual(told, ['conflict', 'failed']);
  assert.deepEqual(logged, told);
});
