import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatsError } from 'nats';
import { isOvertaken, isTemporary, natsFarmError } from './nats-error.ts';

function apiError(code: number, errorCode: number, description: string): NatsError {
  const error = new NatsError(description, String(code));
  error.api_error = { code, err_code: errorCode, description };
  return error;
}

test('what passes by itself is told from what does not, also where only newer servers say it', () => {
  for (const [code, errorCode, description] of [
    [503, 10008, 'JetStream system temporarily unavailable'],
    [409, 10158, 'duplicate message id is in process'],
    [503, 10163, 'expected last sequence per subject temporarily unavailable'],
    [400, 10164, 'wrong last sequence'],
    [429, 10167, 'too many requests'],
  ] as const) {
    const error = apiError(code, errorCode, description);
    assert.equal(isTemporary(error), true, description);
    assert.equal(natsFarmError(error, 'writing').code, 'unavailable', description);
  }
  for (const error of [
    apiError(400, 10071, 'wrong last sequence: 7'),
    apiError(404, 10059, 'stream not found'),
    apiError(503, 10077, 'no space left on device'),
    new Error('another'),
  ]) {
    assert.equal(isTemporary(error), false, error.message);
  }
});

test('another writer was first where its message is stored, and where it is on its way', () => {
  assert.equal(isOvertaken(apiError(400, 10071, 'wrong last sequence: 7')), true);
  assert.equal(isOvertaken(apiError(400, 10164, 'wrong last sequence')), true);
  assert.equal(isOvertaken(apiError(409, 10158, 'duplicate message id is in process')), false);
});
