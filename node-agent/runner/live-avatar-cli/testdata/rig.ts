import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { FromRunner, SpanRequest, ToRunner } from '../../../src/runner/protocol.ts';
import { RunnerProcess } from '../../../src/runner/runner-process.ts';
import { ended } from '../../../src/runner/testdata/processes.ts';
import { writePicture, writeWav } from '../../synthetic/testdata/media.ts';

/** See test/run.ts. */
const { NODE_COMPILE_CACHE } = process.env;
const compileCache = NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const STAND_IN = new URL('stand-in.ts', import.meta.url).href;
const WIDTH = 256;
const HEIGHT = 128;

/** A start of the stand-in, or of a child of its. */
interface Start {
  readonly rank: number;
  readonly args: readonly string[];
  readonly pid: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A host with an imitated checkout and weights, and inputs for spans of a job of 5 clips, whose last is short. */
export interface Inputs {
  readonly directory: string;
  readonly workDir: string;
  /** Where the stand-in notes its starts. */
  readonly log: string;
  /** Clips 0 to 3, base seed 0. */
  readonly request: SpanRequest;
  /** Where the imitations are, as a host's paths. */
  readonly host: {
    readonly python: string;
    readonly checkout: string;
    readonly ckpt_dir: string;
    readonly lora: string;
  };
  /** The stand-in's starts so far. */
  starts(): Promise<readonly Start[]>;
  /** Waits until so many processes have noted themselves. */
  expectProcesses(count: number): Promise<void>;
  /** Waits until all processes that noted themselves are gone. */
  expectNoProcess(): Promise<void>;
  /** Lets a stand-in with the fault `held` go on. */
  letGo(): Promise<void>;
}

/** A frame as it arrived. */
export interface ArrivedFrame {
  readonly produced: number;
  /** Its number on the job's timeline, as the stand-in drew it. */
  readonly number: number;
  /** Colour of its lower half. */
  readonly colour: readonly number[];
}

/** A runner that was started, with what it says. */
export interface Rig {
  readonly runner: RunnerProcess;
  readonly messages: readonly FromRunner[];
  readonly frames: readonly ArrivedFrame[];
  /** Lines that it printed. */
  readonly printed: readonly string[];
  send(message: ToRunner): Promise<void>;
  /** The next message of that type, from those that arrived since the last call for the type. */
  next<Type extends FromRunner['type']>(type: Type): Promise<Extract<FromRunner, { type: Type }>>;
}

/** Makes {@link Inputs} in a directory that the test removes. */
export async function makeInputs(t: TestContext): Promise<Inputs> {
  const directory = await mkdtemp(join(tmpdir(), 'cli-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const path = (...names: string[]): string => join(directory, ...names);
  const files = {
    'checkout/minimal_inference/s2v_streaming_interact.py': '',
    'checkout/.git/HEAD': 'ref: refs/heads/main\n',
    'checkout/.git/refs/heads/main': `${'a'.repeat(40)}\n`,
    'ckpt/config.json': '{}',
    'ckpt/diffusion_pytorch_model-00001-of-00004.safetensors': '',
    'ckpt/models_t5_umt5-xxl-enc-bf16.pth': '',
    'ckpt/Wan2.1_VAE.pth': '',
    'ckpt/google/umt5-xxl/tokenizer.json': '{}',
    'ckpt/wav2vec2-large-xlsr-53-english/config.json': '{}',
    'lora/liveavatar.safetensors': '',
    'work/.keep': '',
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(path(name)), { recursive: true });
    if (!name.endsWith('.keep')) await writeFile(path(name), text);
  }
  const python = path('python');
  await writeFile(python, `#!${process.execPath}\nimport(${JSON.stringify(STAND_IN)});\n`, { mode: 0o755 });
  // Two GPUs, as nvidia-smi tells of them in a container: no process is listed. After the first look 2 GiB more are in use.
  await mkdir(path('bin'));
  const seen = path('bin', 'seen');
  const cards = `echo 1024; if [ -e ${seen} ]; then echo 4096; else : > ${seen}; echo 2048; fi`;
  const script = `#!/bin/sh\ncase "$1" in --query-gpu=*) ${cards};; esac\n`;
  await writeFile(path('bin', 'nvidia-smi'), script, { mode: 0o755 });
  const log = path('starts.log');
  const starts = async (): Promise<readonly Start[]> => {
    const text = await readFile(log, 'utf8').catch(() => '');
    // What has no end yet is still being written.
    const lines = text.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Start);
  };
  return {
    directory,
    workDir: path('work'),
    log,
    host: {
      ...{ python, checkout: path('checkout'), ckpt_dir: path('ckpt') },
      lora: path('lora', 'liveavatar.safetensors'),
    },
    request: {
      ...{ leaseId: 'lease-1', jobId: 'job-1', span: 0, start: 0, end: 3, preRoll: 0, continues: null, clips: 5 },
      ...{ width: WIDTH, height: HEIGHT, sampleSteps: 4, baseSeed: 0, prompt: 'a woman talks', anchored: false },
      referencePath: await writePicture(directory, WIDTH, HEIGHT),
      // What the coordinator makes of 4.1 clips.
      audioPath: await writeWav(directory, 4.1 * 1.92, (time) => 0.3 * Math.sin(2 * Math.PI * 200 * time)),
    },
    starts,
    expectProcesses: async (count) => {
      while ((await starts()).length < count) await sleep(20);
    },
    expectNoProcess: async () => {
      for (const { pid } of await starts()) await ended(pid);
    },
    letGo: () => writeFile(`${log}.go`, ''),
  };
}

/** How {@link startRig} starts a runner. */
export interface RigOptions {
  readonly args?: readonly string[];
  /** What goes wrong in the stand-in. */
  readonly fault?: string;
  readonly load?: boolean;
  /** CUDA_VISIBLE_DEVICES. */
  readonly devices?: string;
}

/** Starts a runner, and loads it unless told otherwise. */
export async function startRig(
  t: TestContext,
  inputs: Inputs,
  { args = [], fault = '', load = true, devices = args.includes('--tpp') ? '0,1,2,3,4' : '0' }: RigOptions = {},
): Promise<Rig> {
  const messages: FromRunner[] = [];
  const frames: ArrivedFrame[] = [];
  const printed: string[] = [];
  const taken = new Map<string, number>();
  let arrived = Promise.withResolvers<void>();
  const { python, checkout, ckpt_dir, lora } = inputs.host;
  const host = ['--python', python, '--checkout', checkout, '--ckpt-dir', ckpt_dir, '--lora', lora];
  const runner = await RunnerProcess.start({
    command: process.execPath,
    args: [MAIN, ...host, '--work-dir', inputs.workDir, ...args],
    env: {
      PATH: `${join(inputs.directory, 'bin')}:${process.env.PATH}`,
      ...{ STAND_IN: fault, STAND_IN_LOG: inputs.log, CUDA_VISIBLE_DEVICES: devices },
      ...compileCache,
    },
    socketDir: inputs.directory,
    helloTimeoutMs: 60_000,
    onStderr: (line) => printed.push(line),
    onMessage: async (message, payload) => {
      messages.push(message);
      if (message.type === 'frames') frames.push(...readFrames(message.produced, message.count, payload));
      arrived.resolve();
      arrived = Promise.withResolvers<void>();
    },
  });
  t.after(() => runner.kill());
  const next: Rig['next'] = async (type) => {
    const skip = taken.get(type) ?? 0;
    taken.set(type, skip + 1);
    for (;;) {
      const found = messages.filter((message) => message.type === type)[skip];
      if (found !== undefined) return found as Extract<FromRunner, { type: typeof type }>;
      await arrived.promise;
    }
  };
  const rig: Rig = { runner, messages, frames, printed, next, send: (message) => runner.send(message) };
  if (!load) return rig;
  await rig.send({ type: 'load' });
  await rig.next('loaded');
  return rig;
}

function readFrames(produced: number, count: number, payload: Uint8Array): ArrivedFrame[] {
  const bytes = WIDTH * HEIGHT * 3;
  return Array.from({ length: count }, (_, i) => {
    const rgb = payload.subarray(i * bytes, (i + 1) * bytes);
    const at = (x: number, y: number): number => (y * WIDTH + x) * 3;
    const bits = Array.from({ length: 16 }, (_unused, bit) => {
      const middle = at(Math.floor(((bit + 0.5) * WIDTH) / 16), HEIGHT / 4);
      return (rgb[middle] ?? 0) > 127 ? 1 << bit : 0;
    });
    const below = at(WIDTH / 2, Math.floor(HEIGHT * 0.75));
    return {
      produced: produced + i,
      number: bits.reduce((sum, bit) => sum + bit, 0),
      colour: [...rgb.subarray(below, below + 3)],
    };
  });
}
