import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jobDefinition } from '../core/test-jobs.ts';
import { DoubtfulOrders } from './doubtful-orders.ts';

const orderOf = (jobId: string, idempotencyKey?: string) => ({
  definition: jobDefinition({ jobId, ...(idempotencyKey === undefined ? {} : { idempotencyKey }) }),
  priority: 0,
});

test('an order in doubt stands for every other one with its key, until it is stored or the term is over', () => {
  const doubtful = new DoubtfulOrders();
  const [first, again] = [orderOf('first', 'key'), orderOf('again', 'key')];
  assert.equal(doubtful.orderFor(first, 1), first);
  doubtful.doubt(first);
  assert.equal(doubtful.orderFor(again, 1), first);
  assert.equal(doubtful.orderFor(again, 2), again, 'a later leader knows what is stored');
  doubtful.doubt(again);
  doubtful.settle({ definition: again.definition });
  assert.equal(doubtful.orderFor(first, 2), first);
  assert.equal(doubtful.size, 0);
});

test('orders in doubt are bounded however many there are: the newest are kept, and those without a key never', () => {
  const doubtful = new DoubtfulOrders();
  for (let n = 0; n < 3000; n++) {
    doubtful.orderFor(orderOf(`job-${n}`, `key-${n}`), 1);
    doubtful.doubt(orderOf(`job-${n}`, `key-${n}`));
    doubtful.doubt(orderOf(`keyless-${n}`));
  }
  assert.equal(doubtful.size, 1000);
  assert.equal(doubtful.orderFor(orderOf('again', 'key-2999'), 1).definition.jobId, 'job-2999');
  assert.equal(doubtful.orderFor(orderOf('again', 'key-2000'), 1).definition.jobId, 'job-2000');
  assert.equal(doubtful.orderFor(orderOf('again', 'key-1999'), 1).definition.jobId, 'again');
});
