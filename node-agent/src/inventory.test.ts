import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGpus } from './inventory.ts';

test('the CSV of nvidia-smi is read, blank lines and odd names included', () => {
  const csv = '0, NVIDIA H100 80GB HBM3, 81559\r\n1, Some, Card, 24576\n\n';
  assert.deepEqual(parseGpus(csv), [
    { index: 0, name: 'NVIDIA H100 80GB HBM3', memoryBytes: 81_559 * 2 ** 20 },
    { index: 1, name: 'Some, Card', memoryBytes: 24_576 * 2 ** 20 },
  ]);
  assert.deepEqual(parseGpus(''), []);
});

test('a line that is no GPU is named', () => {
  assert.throws(() => parseGpus('0, NVIDIA H100, [N/A]\n'), {
    message: /line not understood: "0, NVIDIA H100, \[N\/A\]"/,
  });
});

test('absurdly many lines are cut off', () => {
  const csv = Array.from({ length: 500 }, (_, i) => `${i}, GPU, 1024`).join('\n');
  assert.equal(parseGpus(csv).length, 64);
});
