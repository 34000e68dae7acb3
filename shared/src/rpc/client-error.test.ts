import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectionFault } from './client-error.ts';

test('of what grpc-js says about a failed connection, the cause is left', () => {
  const refused = 'No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ';
  assert.equal(connectionFault(refused), 'connect ECONNREFUSED 127.0.0.1:1');
  const timed =
    'No connection established. Last error: Failed to connect (2030-05-01T18:00:00.123Z). Resolution note: ';
  assert.equal(connectionFault(timed), 'Failed to connect');
  const tls =
    'No connection established. Last error: Error: 40CD:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:../deps/tlsany_meth.c:77:\n. Resolution note: ';
  assert.equal(connectionFault(tls), 'TLS: wrong version number');
  assert.equal(connectionFault('token: this coordinator requires one'), 'token: this coordinator requires one');
});
