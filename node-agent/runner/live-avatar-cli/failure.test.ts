import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from './failure.ts';

const end = { rank: 0, code: 1, signal: null };
const GIB = 2 ** 30;

const cases: readonly (readonly [line: string, errorClass: string])[] = [
  [
    'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of which 5.62 MiB is free.',
    'out_of_memory',
  ],
  [
    "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 23622320128 bytes. Error code 12 (Cannot allocate memory)",
    'out_of_memory',
  ],
  ['OSError: [Errno 28] No space left on device', 'environment'],
  [
    'RuntimeError: The expanded size of the tensor (2800) must match the existing size (3640) at non-singleton dimension 1.',
    'bad_input',
  ],
  ["KeyError: '5'", 'bad_input'],
  ["PIL.UnidentifiedImageError: cannot identify image file '/w/reference.png'", 'bad_input'],
  ["FileNotFoundError: [Errno 2] No such file or directory: '/ckpt/Wan2.1_VAE.pth'", 'environment'],
  ['safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer', 'environment'],
  ['OSError: Error no file named diffusion_pytorch_model.bin found in directory /ckpt.', 'environment'],
  ["ModuleNotFoundError: No module named 'flash_attn'", 'environment'],
  ['AssertionError: At least 5 GPUs are supported for distributed inference.', 'environment'],
  ["KeyError: 'lora_rank'", 'environment'],
  [
    'RuntimeError: torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, or ROCm MI300+',
    'environment',
  ],
  ['torch.AcceleratorError: CUDA error: device-side assert triggered', 'device'],
  ['RuntimeError: No CUDA GPUs are available', 'device'],
  [
    '[rank3]: torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, unhandled system error',
    'device',
  ],
  ['RuntimeError: Input type (CUDABFloat16Type) and weight type (CPUBFloat16Type) should be the same', 'crash'],
];

for (const [line, errorClass] of cases) {
  test(`${errorClass}: ${line.slice(0, 70)}`, () => {
    const found = diagnose(end, ['COMPILE: True', 'Traceback (most recent call last):', '  File "s2v.py"', line]);
    assert.equal(found.errorClass, errorClass, found.message);
    assert.ok(found.message.includes(line.replace('[rank3]: ', '')), found.message);
  });
}

test('numbers of memory are told in bytes', () => {
  assert.deepEqual(diagnose(end, [cases[0]?.[0] ?? '']).numbers, {
    neededBytes: 20 * 2 ** 20,
    totalBytes: Math.round(79.15 * GIB),
    freeBytes: Math.round(5.62 * 2 ** 20),
  });
  assert.deepEqual(diagnose(end, [cases[1]?.[0] ?? '']).numbers, { neededBytes: 23_622_320_128 });
});

test('out of memory is told from what follows from it', () => {
  const lines = [cases[0]?.[0] ?? '', '[rank0]: RuntimeError: CUDA error: an illegal memory access was encountered'];
  assert.equal(diagnose(end, lines).errorClass, 'out_of_memory');
});

test('an exception is better evidence than a log line, in whatever order the two arrive', () => {
  const lines = [
    "FileNotFoundError: video file /w/out.mp4 doesn't exist",
    '[2026-01-01 00:00:00,000] INFO: save_video failed, error: [Errno 32] Broken pipe',
  ];
  for (const order of [lines, lines.toReversed()]) {
    const found = diagnose(end, order);
    assert.equal(found.errorClass, 'environment');
    assert.match(found.message, /could not write its video: .*FileNotFoundError: video file/);
  }
});

test('a refused command line is the fault of the host', () => {
  const lines = [
    'usage: s2v_streaming_interact.py [-h]',
    's2v_streaming_interact.py: error: argument --size: invalid choice',
  ];
  const found = diagnose({ ...end, code: 2 }, lines);
  assert.equal(found.errorClass, 'environment');
  assert.match(found.message, /invalid choice/);
});

test('without a word, how the process ended is the evidence', () => {
  assert.deepEqual(diagnose({ rank: 2, code: null, signal: 'SIGSEGV' }, []), {
    errorClass: 'crash',
    message: "upstream's script (rank 2) ended with signal SIGSEGV",
    numbers: {},
  });
  assert.match(
    diagnose({ ...end, code: null, signal: 'SIGKILL' }, ['loading']).message,
    /host has no memory left: loading/,
  );
});
