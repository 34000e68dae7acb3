import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtInModelProfile, checkModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { dtypeFor } from '@clipfarm/shared/live-avatar/open-dtype';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { formSlots } from './form-slots.ts';
import { testGpu } from './testdata.ts';

const host = { checkout: '/c', ckpt_dir: '/w' };
const single = builtInModelProfile('single-80g', host, { dtype: 'bf16' });
const small = builtInModelProfile('single-48g-fp8', host);
const tpp = builtInModelProfile('tpp-5x80g', host);
const auto = { slots: 'auto', gpus: undefined, hostBytes: 1024 * GIB } as const;
const indices = (slots: ReturnType<typeof formSlots>) => slots.map(({ gpus }) => gpus.map(({ index }) => index));
const eight = Array.from({ length: 8 }, (_, index) => testGpu(index));
const old = { name: 'A100', computeCapability: 8 };

test('slots are formed from the GPUs that can run the profile', () => {
  assert.deepEqual(indices(formSlots(single, eight.slice(0, 2), auto)), [[0], [1]]);
  assert.deepEqual(indices(formSlots(tpp, eight, { ...auto, hostBytes: 2048 * GIB })), [[0, 1, 2, 3, 4]]);
  assert.deepEqual(indices(formSlots(single, eight, { ...auto, slots: 1, gpus: [5] })), [[5]]);
  assert.deepEqual(indices(formSlots(small, [testGpu(0, old), testGpu(1)], auto)), [[1]]);
  assert.deepEqual(indices(formSlots(single, [testGpu(0, old)], auto)), [[0]]);
});

test('the number format is bf16 where it holds every size or nothing else is possible, otherwise fp8', () => {
  const large = { memoryBytes: 140 * GIB };
  assert.equal(dtypeFor([testGpu(0, large), testGpu(1, large)]), 'bf16');
  assert.equal(dtypeFor([testGpu(0, large), testGpu(1)]), 'fp8');
  assert.equal(dtypeFor([testGpu(0, old)]), 'bf16');
});

test('a slot may use what is free on its fullest card, or less where the profile says so', () => {
  const [slot] = formSlots(tpp, [...eight.slice(0, 4), testGpu(4, { memoryUsedBytes: 5 * GIB })], {
    ...auto,
    hostBytes: 2048 * GIB,
  });
  assert.equal(slot?.memoryBytes, 74.6 * GIB);
  const own = { name: 'own', runner: 'live-avatar', memory_gib_per_gpu: 60, host_memory_gib: 40, ...host };
  const [limited] = formSlots(checkModelProfile(own, 'p'), eight, { ...auto, slots: 2 });
  assert.deepEqual([limited?.memoryBytes, limited?.hostMemoryBytes], [60 * GIB, 40 * GIB]);
});

test('what can not be is refused with the numbers and what to do', () => {
  for (const [run, message] of [
    [() => formSlots(single, [], auto), /single-80g can't run here: 1 slots of 1 GPUs each need 1, 0 of this host's 0/],
    [() => formSlots(tpp, eight.slice(0, 4), auto), /1 slots of 5 GPUs each need 5, 4 of this host's 4 GPUs/],
    [() => formSlots(single, eight, { ...auto, slots: 9 }), /9 slots of 1 GPUs each need 9, 8 of/],
    [() => formSlots(single, eight, { ...auto, gpus: [9] }), /--gpus: there is no GPU 9; there is: 0, 1, 2/],
    [
      () => formSlots(small, [testGpu(0, old)], auto),
      /A100\) has compute capability 8\.0, fp8 needs 8\.9 or more: use/,
    ],
    [() => formSlots(small, [testGpu(0, old), testGpu(1)], { ...auto, gpus: [0, 1] }), /GPU 0 \(A100\)/],
    [
      () => formSlots(single, [testGpu(0, { name: 'L40S', memoryBytes: 44.5 * GIB })], auto),
      /GPU 0 \(L40S\) has 44\.5 GiB free, bf16 at 384\*256 needs 52\.5 GiB: use dtype fp8/,
    ],
    [
      () => formSlots(single, eight, { ...auto, hostBytes: 192 * GIB }),
      /loading the model needs 23\.7 GiB of the host's memory, 8 slots on 192\.0 GiB may use 21\.6 GiB each: use fewer/,
    ],
  ] as const) {
    assert.throws(run, { code: 'failed_precondition', message });
  }
});
