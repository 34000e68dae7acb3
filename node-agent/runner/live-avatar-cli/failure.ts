import type { RunnerErrorClass } from '../../src/runner/protocol.ts';

/** What upstream logs about its video instead of failing. */
export const SWALLOWED = /(save_video failed, error|merge_video_audio failed with error): .*/;

/** How a process of upstream's ended. */
export interface RankEnd {
  readonly rank: number;
  readonly code: number | null;
  readonly signal: string | null;
}

/** A failure of upstream's script: its class, the evidence in words, and the numbers in it. */
export interface Diagnosis {
  readonly errorClass: RunnerErrorClass;
  readonly message: string;
  readonly numbers: Readonly<Record<string, number>>;
}

interface Rule {
  readonly pattern: RegExp;
  readonly errorClass: RunnerErrorClass;
  /** What to do about it, or what it means. */
  readonly meaning: string;
  readonly numbers?: (line: string) => Readonly<Record<string, number>>;
}

/** The message of a program that argparse refuses to run. */
const ARGPARSE_STATUS = 2;

/**
 * Signs of known failures. Most telling first: out of memory ends in other errors too, a broken GPU in all kinds. Texts
 * are those of torch 2.8, transformers, safetensors, CPython, FFmpeg and upstream itself.
 */
const RULES: readonly Rule[] = [
  {
    pattern: /CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED/,
    errorClass: 'out_of_memory',
    meaning: 'the GPU has too little memory for this picture',
    numbers: gpuMemoryNumbers,
  },
  {
    pattern: /DefaultCPUAllocator: (can't|not enough)|^MemoryError|Cannot allocate memory/,
    errorClass: 'out_of_memory',
    meaning: 'the host has too little memory for this range, whose frames upstream keeps until the end',
    numbers: (line) => numbersOf({ neededBytes: /tried to allocate (\d+) bytes/.exec(line)?.[1] }),
  },
  {
    pattern: /No space left on device|Disk quota exceeded/,
    errorClass: 'environment',
    meaning: 'the disk of the work folder is full',
  },
  {
    pattern: /save_video failed, error:|^FileNotFoundError: video file /,
    errorClass: 'environment',
    meaning: 'upstream could not write its video: the disk or its FFmpeg failed',
  },
  {
    pattern: /EADDRINUSE|address already in use/i,
    errorClass: 'environment',
    meaning: "another process took the port between upstream's ranks",
  },
  {
    pattern: /CUDA driver version is insufficient|Found no NVIDIA driver|not compiled with CUDA enabled/,
    errorClass: 'environment',
    meaning: 'driver and torch of this host do not fit together',
  },
  {
    pattern: /_scaled_mm is only supported|requires? (a )?compute capability/i,
    errorClass: 'environment',
    meaning: 'this GPU can not compute in fp8; leave --fp8 out',
  },
  {
    pattern: /no kernel image is available|invalid device ordinal|FlashAttention only supports/,
    errorClass: 'environment',
    meaning: 'the installed software does not serve this GPU',
  },
  {
    pattern:
      /CUDA error|CUDNN_STATUS|CUBLAS_STATUS|device-side assert|uncorrectable ECC|cudaError|no CUDA-capable device|No CUDA GPUs are available/,
    errorClass: 'device',
    meaning: 'the GPU failed',
  },
  {
    pattern:
      /NCCL error|ncclInternalError|ncclSystemError|ncclUnhandledCudaError|DistBackendError|Watchdog caught collective operation timeout/,
    errorClass: 'device',
    meaning: 'the GPUs could not talk to each other',
  },
  {
    pattern:
      /must match the (existing|size)|size of tensor a|shape .* is invalid for input|Sizes of tensors must match|^KeyError: '5'/,
    errorClass: 'bad_input',
    meaning: "the picture or its settings do not fit upstream's caches",
  },
  {
    pattern: /UnidentifiedImageError|DecompressionBomb|image file is truncated|LibsndfileError|NoBackendError/,
    errorClass: 'bad_input',
    meaning: 'upstream can not read an input',
  },
  {
    pattern: /SafetensorError|PytorchStreamReader|invalid load key|Error\(s\) in loading state_dict|UnpicklingError/,
    errorClass: 'environment',
    meaning: 'a file of the weights is damaged or does not belong to this model',
  },
  {
    pattern:
      /Please specify the checkpoint directory|HFValidationError|does not appear to have a file named|Error no file named|^(FileNotFoundError|OSError|NotADirectoryError)\b/,
    errorClass: 'environment',
    meaning: 'a file of the weights or of the checkout is missing',
  },
  {
    pattern: /^(ModuleNotFoundError|ImportError)\b|flash_attn|FLASH_ATTN/,
    errorClass: 'environment',
    meaning: "Python lacks what upstream requires; install the checkout's requirements",
  },
  {
    pattern: /^AssertionError: .*(GPUs? are supported|VAE parallel|not supported)|^KeyError: 'lora_/,
    errorClass: 'environment',
    meaning: 'upstream refuses to run in this mode; checkout and profile do not fit together',
  },
];

/** A line that names an exception, as the last one of a traceback does; ranks may print theirs behind a prefix. */
const EXCEPTION = /^(\[rank\d+\]:\s*)?([A-Za-z_][\w.]*(Error|Exception|Interrupt)|AssertionError)\b/;

/**
 * What ended upstream's script.
 *
 * @param lines the last lines that the rank printed, progress bars and the prompt left out, oldest first
 */
export function diagnose(end: RankEnd, lines: readonly string[]): Diagnosis {
  const bare = lines.map((line) => line.replace(/^\[rank\d+\]:\s*/, ''));
  const how = end.signal === null ? `status ${end.code}` : `signal ${end.signal}`;
  const last = bare.findLast((line) => EXCEPTION.test(line)) ?? bare.at(-1);
  const said = (line: string | undefined): string => (line === undefined ? '' : `: ${shorten(line.trim())}`);
  if (end.code === ARGPARSE_STATUS && bare.some((line) => / error: /.test(line))) {
    const complaint = bare.findLast((line) => / error: /.test(line));
    const meaning = 'the checkout does not take these arguments; it is not the version that this runner knows';
    return {
      errorClass: 'environment',
      message: `upstream refused its command line: ${meaning}${said(complaint)}`,
      numbers: {},
    };
  }
  for (const { pattern, errorClass, meaning, numbers } of RULES) {
    const telling = bare.filter((candidate) => pattern.test(candidate));
    // A log line and an exception come over two pipes, in any order; the exception is what ended the script.
    const line = telling.findLast((candidate) => EXCEPTION.test(candidate)) ?? telling.at(-1);
    if (line === undefined) continue;
    return { errorClass, message: `${meaning}${said(line)}`, numbers: numbers?.(line) ?? {} };
  }
  const killed = end.signal === 'SIGKILL' ? '; the kernel does that to a process when the host has no memory left' : '';
  const message = `upstream's script (rank ${end.rank}) ended with ${how}${killed}${said(last)}`;
  return { errorClass: 'crash', message, numbers: {} };
}

/** "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.05 GiB is free." */
function gpuMemoryNumbers(line: string): Readonly<Record<string, number>> {
  const size = (before: RegExp): number | undefined => {
    const found = new RegExp(`${before.source}\\s*([\\d.]+) (bytes|KiB|MiB|GiB|TiB)`).exec(line);
    return found === null ? undefined : Math.round(Number(found[1]) * UNITS[found[2] as keyof typeof UNITS]);
  };
  return numbersOf({
    neededBytes: size(/Tried to allocate/),
    totalBytes: size(/total capacity of/),
    freeBytes: size(/of which/),
  });
}

const UNITS = { bytes: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 } as const;

function numbersOf(values: Readonly<Record<string, string | number | undefined>>): Readonly<Record<string, number>> {
  const known = Object.entries(values).filter((entry) => entry[1] !== undefined && Number.isFinite(Number(entry[1])));
  return Object.fromEntries(known.map(([name, value]) => [name, Number(value)]));
}

function shorten(text: string): string {
  return text.length <= 400 ? text : `${text.slice(0, 400)}…`;
}
