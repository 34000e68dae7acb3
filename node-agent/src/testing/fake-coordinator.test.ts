import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { parseAddress } from '@clipfarm/shared/address';
import { FakeCoordinator } from './fake-coordinator.ts';

test('it listens at its address again although somebody else had the port meanwhile', async (t) => {
  const coordinator = await FakeCoordinator.start();
  t.after(() => coordinator[Symbol.asyncDispose]());
  const { address } = coordinator;
  coordinator.down();
  const other = createServer();
  await once(other.listen(parseAddress(address, 'address').port, '127.0.0.1'), 'listening');
  let refused = 0;
  await coordinator.up(() => {
    refused += 1;
    other.close();
  });
  assert.ok(refused > 0);
  assert.equal(coordinator.address, address);
});
