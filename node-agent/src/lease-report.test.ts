import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeaseReports, leaseEnded } from './lease-report.ts';

const report = (leaseId: string) => leaseEnded({ leaseId, jobId: 'j' }, { reason: 'completed' }, 3);
const ids = (messages: readonly { readonly leaseId: string }[]) => messages.map(({ leaseId }) => leaseId);

test('a failure carries its class and a message of bounded length', () => {
  const outcome = { reason: 'failed', failureClass: 'hang', message: 'x'.repeat(5000) } as const;
  const message = leaseEnded({ leaseId: 'l', jobId: 'j' }, outcome, 9);
  assert.equal(message.reason, 'LEASE_END_REASON_FAILED');
  assert.equal(message.failureClass, 'FAILURE_CLASS_HANG');
  assert.equal(message.message.length, 2000);
});

test('a report that was sent shortly before the link broke is sent again, an older one is not', () => {
  const reports = new LeaseReports();
  reports.add(report('old'), true, 0);
  reports.add(report('late'), true, 14_000);
  reports.disconnected(15_000);
  reports.add(report('offline'), false, 16_000);
  assert.deepEqual(ids(reports.connected(20_000)), ['late', 'offline']);
  reports.disconnected(40_000);
  assert.deepEqual(ids(reports.connected(41_000)), []);
});

test('ended leases are remembered for repeated grants, but not without bound', () => {
  const reports = new LeaseReports();
  for (let i = 0; i < 100; i += 1) reports.add(report(`l${i}`), true, i);
  assert.equal(reports.find('l0'), undefined);
  assert.equal(reports.find('l99')?.clip, 3);
});
