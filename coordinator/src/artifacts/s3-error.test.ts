import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { FarmError } from '@clipfarm/shared/errors';
import { mayBeDone, s3Error } from './s3-error.ts';

const answer = (name: string, status: number, more: object = {}) =>
  Object.assign(new Error('in the words of the server'), { name, $metadata: { httpStatusCode: status }, ...more });

test('every kind of failure has its code', () => {
  for (const [error, code] of [
    [answer('AccessDenied', 403), 'failed_precondition'],
    [answer('ExpiredToken', 400), 'failed_precondition'],
    [answer('Unknown', 401), 'failed_precondition'],
    [answer('Unknown', 400), 'failed_precondition'],
    [answer('NoSuchBucket', 404), 'failed_precondition'],
    [answer('PermanentRedirect', 301), 'failed_precondition'],
    [answer('AuthorizationHeaderMalformed', 400), 'failed_precondition'],
    [answer('NotImplemented', 501), 'failed_precondition'],
    [Object.assign(new Error('none'), { name: 'CredentialsProviderError' }), 'failed_precondition'],
    [answer('NoSuchKey', 404), 'not_found'],
    [answer('BadDigest', 400), 'invalid_argument'],
    [answer('XMinioStorageFull', 507), 'resource_exhausted'],
    [answer('QuotaExceeded', 403), 'resource_exhausted'],
    [answer('InternalError', 500), 'unavailable'],
    [answer('SlowDown', 503), 'unavailable'],
    [answer('TooManyRequests', 429), 'unavailable'],
    [answer('RequestTimeout', 400), 'unavailable'],
    [Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }), 'unavailable'],
    [Object.assign(new Error('late'), { name: 'TimeoutError' }), 'unavailable'],
    [Object.assign(new Error('aborted'), { code: 'ECONNRESET' }), 'unavailable'],
    [Object.assign(new Error('no space left'), { code: 'ENOSPC' }), 'resource_exhausted'],
    [answer('InvalidArgument', 400), 'internal'],
    [answer('Unknown', 503), 'unavailable'],
    [new TypeError('a bug'), 'internal'],
    ['thrown text', 'internal'],
  ] as const) {
    const made = s3Error(error, 'store a/b', 'clips');
    assert.equal(made.code, code, `${inspect(error)} gives ${made.message}`);
    assert.match(made.message, /store a\/b/);
  }
  const own = new FarmError('conflict', 'mine');
  assert.equal(s3Error(own, 'store a/b', 'clips'), own);
});

test('a refusal says what to check', () => {
  const error = s3Error(answer('SignatureDoesNotMatch', 403), 'store a/b', 'clips');
  assert.equal(
    error.message,
    'cannot store a/b: S3 refuses: SignatureDoesNotMatch (HTTP 403): in the words of the server',
  );
  assert.match(error.hint ?? '', /clock of this host.*s3:PutObject.*s3:ListBucket/);
});

test('what the client knows about the request stays behind', () => {
  const error = answer('SignatureDoesNotMatch', 403, {
    AWSAccessKeyId: 'AKIAKEY',
    CanonicalRequest: 'x-amz-security-token:TOKEN',
  });
  assert.doesNotMatch(inspect(s3Error(error, 'store a/b', 'clips'), { depth: 10 }), /AKIAKEY|TOKEN/);
});

test('what was not answered, or is not there to be repeated, may have been done; what was refused was not', () => {
  const hungUp = Object.assign(new Error('socket hang up'), { name: 'TimeoutError', code: 'ECONNRESET' });
  for (const error of [hungUp, answer('Unknown', 504), answer('NoSuchUpload', 404)]) assert.ok(mayBeDone(error));
  for (const error of [answer('AccessDenied', 403), answer('NoSuchBucket', 404), new TypeError('a bug')]) {
    assert.ok(!mayBeDone(error), inspect(error));
  }
});
