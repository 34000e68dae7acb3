import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import type { LogLine } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { OperatorLog } from './operator-log.ts';

function operatorLog() {
  const clock = new ManualClock();
  const sent: LogLine[] = [];
  const log = new OperatorLog({ send: (line) => sent.push(line), now: () => clock.monotonic() });
  return { clock, sent, log };
}

test('a line goes out as it is, a long one cut to 2000 characters of well-formed text', () => {
  const { sent, log } = operatorLog();
  log.tell(50, 'lease failed', 'l');
  assert.deepEqual(sent, [{ level: 50, message: 'lease failed', leaseId: 'l' }]);
  log.tell(50, `${'x'.repeat(1999)}\u{1f600}`, 'l');
  assert.equal(sent[1]?.message.length, 2000);
  assert.equal(sent[1]?.message.isWellFormed(), true);
});

test('after 20 lines at once there is one a second, which tells how many were left out', () => {
  const { clock, sent, log } = operatorLog();
  const tell = (count: number) => {
    for (let i = 0; i < count; i += 1) log.tell(40, 'again', '');
  };
  tell(1000);
  assert.equal(sent.length, 20);
  clock.advance(999);
  tell(1);
  assert.equal(sent.length, 20);
  clock.advance(1);
  tell(5);
  assert.equal(sent.length, 21);
  assert.equal(sent[20]?.message, '(981 lines were left out before this one) again');
  clock.advance(3_600_000);
  tell(1000);
  assert.equal(sent.length, 41, 'a quiet hour saves up no more than the burst');
  assert.equal(sent[21]?.message, '(4 lines were left out before this one) again');
  assert.equal(sent[22]?.message, 'again');
});
