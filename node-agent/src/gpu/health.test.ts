import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type GpuHealth, judgeGpus, newGpuHealth } from './health.ts';
import { testGpu } from './testdata.ts';
import { parseXids } from './xid.ts';

const both = [testGpu(0), testGpu(1)];
const begun = newGpuHealth(both, 1000);
const troubles = (health: GpuHealth) => Object.fromEntries(health.troubles);

function xid(at: number, pci: string, number: number) {
  return parseXids(
    `[ ${at.toFixed(6)}] NVRM: Xid (PCI:${pci}): ${number}, pid=1234, name=python, GPU has fallen off the bus.`,
  );
}

test('XID errors are read from the kernel log, other lines are not', () => {
  const log = `[    1.5] usb 1-1: new device
[ 2000.250000] NVRM: Xid (PCI:0000:3B:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
[2001.0] NVRM: GPU at PCI:0000:3b:00: GPU-1`;
  const [found, ...more] = parseXids(log);
  assert.deepEqual([found?.at, found?.pci, found?.xid, more.length], [2000.25, '0000:3b:00.0', 79, 0]);
});

test('a GPU that is no longer listed is out, and back when it is listed again', () => {
  const gone = judgeGpus(begun, { readings: [testGpu(1)], xids: null });
  assert.deepEqual(troubles(gone), { 'GPU-0': 'GPU 0 is gone: the driver no longer lists it' });
  assert.equal(gone.gpus.length, 2);
  const back = judgeGpus(gone, { readings: [testGpu(0, { memoryUsedBytes: 5 }), testGpu(1)], xids: null });
  assert.deepEqual(troubles(back), {});
  assert.equal(back.gpus[0]?.memoryUsedBytes, 5);
});

test('a driver that fails three times in a row takes every GPU out, once or twice it is only slow', () => {
  const fails = (health: GpuHealth) => judgeGpus(health, { readings: 'nvidia-smi took longer than 15 s', xids: null });
  const twice = fails(fails(begun));
  assert.deepEqual(troubles(twice), {});
  assert.deepEqual(
    troubles(judgeGpus(fails(judgeGpus(twice, { readings: both, xids: null })), { readings: both, xids: null })),
    {},
  );
  assert.deepEqual(Object.keys(troubles(fails(twice))), ['GPU-0', 'GPU-1']);
  assert.match(troubles(fails(twice))['GPU-0'] ?? '', /the driver does not answer: .*15 s/);
});

test('an error that only a reset mends takes its GPU out for good; one from before, or a program’s own, does not', () => {
  const look = (health: GpuHealth, xids: ReturnType<typeof xid>) => judgeGpus(health, { readings: both, xids });
  assert.deepEqual(troubles(look(begun, xid(999, '0000:00:00', 79))), {});
  assert.deepEqual(troubles(look(begun, xid(1001, '0000:00:00', 31))), {});
  const out = look(begun, xid(1001, '0000:00:00', 79));
  assert.match(troubles(out)['GPU-0'] ?? '', /^GPU 0 reports XID 79: .*reset the GPU and restart the agent$/);
  // The kernel's log is a ring: the line may be gone at the next look.
  assert.deepEqual(troubles(look(out, [])), troubles(out));
});

test('memory errors count from the start of the agent', () => {
  const before = newGpuHealth([testGpu(0, { uncorrectedErrors: 2 })], 0);
  const look = (uncorrectedErrors: number) =>
    troubles(judgeGpus(before, { readings: [testGpu(0, { uncorrectedErrors })], xids: null }));
  assert.deepEqual(look(2), {});
  assert.match(look(3)['GPU-0'] ?? '', /GPU 0 had 1 memory errors/);
});
