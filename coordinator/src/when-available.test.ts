import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { whenAvailable } from './when-available.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const soon = { firstMillis: 1, maxMillis: 1 } as const;

/** Fails that often with an error of that code, and then succeeds. */
function failing(times: number, code: 'unavailable' | 'failed_precondition') {
  let starts = 0;
  return async () => {
    starts += 1;
    if (starts <= times) throw new FarmError(code, `failure ${starts}`);
    return starts;
  };
}

test('a start that fails because NATS has no leader is repeated, for about a minute', async () => {
  assert.equal(await whenAvailable(failing(5, 'unavailable'), log, soon), 6);
  await assert.rejects(whenAvailable(failing(99, 'unavailable'), log, soon), { message: 'failure 8' });
});

test('a start that would fail again is not repeated', async () => {
  await assert.rejects(whenAvailable(failing(5, 'failed_precondition'), log, soon), { message: 'failure 1' });
});
