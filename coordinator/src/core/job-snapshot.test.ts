import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JOB_SNAPSHOT_VERSION, packJob, unpackJob } from './job-snapshot.ts';
import { execute, refold, submitJob } from './test-jobs.ts';

/** A job of 200 clips, half of them committed by one lease. */
function halfDone() {
  const job = submitJob({ clips: 200 });
  const lease = {
    leaseId: 'lease-of-some-length',
    nodeId: 'node-1',
    slotId: '0',
    profile: 'single-80g',
    start: 0,
    end: 200,
  };
  execute(job, { type: 'grant', lease: { ...lease, preRoll: 0, speculative: false }, reason: 'test' });
  for (let clip = 0; clip < 100; clip++) {
    const chunk = { sha256: `${clip}`.padStart(64, '0'), bytes: 100_000 + clip };
    execute(job, { type: 'commit', chunk: { leaseId: lease.leaseId, clip, frames: 48, chunk, headerHash: 'h' } });
  }
  return job;
}

test('a snapshot holds the job, in less than half of the room of its events', () => {
  const job = halfDone();
  const text = JSON.stringify(packJob(job.state));
  assert.deepEqual(unpackJob(JSON.parse(text)), refold(job.log));
  assert.ok(text.length < JSON.stringify(job.log).length / 2);
});

test('a snapshot of another version is left alone, whatever it holds', () => {
  const packed = packJob(halfDone().state);
  for (const data of [{ ...packed, version: JOB_SNAPSHOT_VERSION + 1 }, { version: 0 }, null, 'text', 7, []]) {
    assert.equal(unpackJob(data), null);
  }
});
