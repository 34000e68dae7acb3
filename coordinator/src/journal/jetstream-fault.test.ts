import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode, NatsError } from 'nats';
import { writeFault } from './jetstream-fault.ts';

function faultOf(error: NatsError | null): Promise<unknown> {
  const purge = async () => {
    if (error !== null) throw error;
    return { success: true, purged: 0 };
  };
  return writeFault({ jsm: { streams: { purge } } }, 'S');
}

test('a stream has a fault where its server says so, and not where it says nothing or this user may not ask', async () => {
  const broken = new NatsError('write 1.blk: input/output error', '500');
  broken.api_error = { code: 500, err_code: 10051, description: broken.message };
  assert.equal(await faultOf(broken), broken);
  assert.equal(await faultOf(null), null);
  assert.equal(await faultOf(NatsError.errorForCode(ErrorCode.Timeout)), null);
  assert.equal(await faultOf(new NatsError('Permissions Violation', ErrorCode.PermissionsViolation)), null);
});
