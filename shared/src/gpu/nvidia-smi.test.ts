import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '../testing/temporary.ts';
import { parseGpus, readGpus } from './nvidia-smi.ts';

const ALL =
  'index,uuid,name,pci.bus_id,driver_version,memory.total,memory.used,compute_cap,temperature.gpu,utilization.gpu,ecc.errors.uncorrected.volatile.total,clocks_event_reasons.active';
const LINE =
  '3, GPU-1234, NVIDIA H100 80GB HBM3, 00000000:3B:00.0, 570.86.15, 81559, 1024, 9.0, 41, 97, 0, 0x0000000000000024';

/** A program in place of `nvidia-smi` that runs these lines of shell. */
function fakeSmi(t: TestContext, script: string): string {
  const path = join(temporaryDirectory(t), 'nvidia-smi');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

test('everything that the driver says of a GPU is read', () => {
  assert.deepEqual(parseGpus(`${LINE}\r\n\n`, ALL.split(',')), [
    {
      ...{ index: 3, uuid: 'GPU-1234', name: 'NVIDIA H100 80GB HBM3', pci: '0000:3b:00.0', driver: '570.86.15' },
      ...{ computeCapability: 9, memoryBytes: 81_559 * 2 ** 20, memoryUsedBytes: 2 ** 30, temperatureCelsius: 41 },
      ...{ utilizationPercent: 97, throttleReasons: ['power cap', 'heat'], uncorrectedErrors: 0 },
    },
  ]);
});

test('what a card does not have is left at its neutral value', () => {
  const line = '0, GPU-1, NVIDIA GeForce RTX 4090, 00000000:01:00.0, 550.1, 24564, 1, 8.9, [N/A], [N/A], [N/A], [N/A]';
  const [gpu] = parseGpus(line, ALL.split(','));
  assert.deepEqual([gpu?.temperatureCelsius, gpu?.throttleReasons, gpu?.uncorrectedErrors], [0, [], 0]);
});

test('a line that is no GPU is named, and absurdly many lines are cut off', () => {
  assert.throws(() => parseGpus('Unable to determine the device handle', ALL.split(',')), {
    message: /line not understood: "Unable to determine/,
  });
  assert.equal(parseGpus(`${LINE}\n`.repeat(500), ALL.split(',')).length, 64);
});

test('a driver that calls a field by its older name, or does not know it, is asked again', async (t) => {
  const older = fakeSmi(
    t,
    `case "$1" in *clocks_event*) echo 'Field "clocks_event_reasons.active" is not a valid field'; exit 2;; esac\necho '${LINE}'`,
  );
  assert.deepEqual((await readGpus(older))[0]?.throttleReasons, ['power cap', 'heat']);
  const oldest = fakeSmi(
    t,
    `case "$1" in *compute_cap*) exit 2;; esac\necho '0, GPU-1, Tesla, 00000000:01:00.0, 470, 16000, 5'`,
  );
  assert.partialDeepStrictEqual(await readGpus(oldest), [{ name: 'Tesla', computeCapability: 0, throttleReasons: [] }]);
});

test('a program that is missing and a driver that fails are told apart', async (t) => {
  await assert.rejects(readGpus(join(temporaryDirectory(t), 'none')), { code: 'failed_precondition' });
  const failing = fakeSmi(t, 'echo "NVIDIA-SMI has failed because it could not communicate" >&2; exit 9');
  await assert.rejects(readGpus(failing), { code: 'internal', message: /could not communicate/ });
});
