import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deflateSync } from 'node:zlib';
import type { FromRunner, SpanRequest, ToRunner } from '../../../src/runner/protocol.ts';
import { RunnerProcess } from '../../../src/runner/runner-process.ts';

/** Directory of the package `live_avatar`. */
export const RUNNERS = fileURLToPath(new URL('../..', import.meta.url));
/** Stand-ins for the Python packages that the runner needs. */
export const STAND_IN = fileURLToPath(new URL('./stand_in', import.meta.url));
/** Stand-in for a checkout of Live Avatar. */
export const CHECKOUT = fileURLToPath(new URL('./checkout', import.meta.url));

/** Python 3.10 or newer; `CLIPFARM_PYTHON` names another one than that on the PATH. */
export const PYTHON = process.env.CLIPFARM_PYTHON ?? 'python3';

const WIDTH = 64;
const HEIGHT = 64;
const CLIP_SECONDS = 1.92;

/** A message as it arrived; `frames` has a hash for each of its frames. */
export interface Arrived {
  readonly message: FromRunner;
  readonly frames: readonly string[];
}

/** Files of a runner: weights that are there but empty, a picture, a talk. */
export interface Inputs {
  readonly directory: string;
  readonly checkpoint: string;
  /** A request for clips 0 to 3 of a job of 12. */
  readonly request: SpanRequest;
}

/** A runner that was started, with what it said. */
export interface Rig {
  readonly runner: RunnerProcess;
  readonly arrived: readonly Arrived[];
  send(message: ToRunner): Promise<void>;
  /** The first message of that type that `accept` takes, once it is there. */
  when<Type extends FromRunner['type']>(
    type: Type,
    accept?: (message: Extract<FromRunner, { type: Type }>) => boolean,
  ): Promise<Extract<FromRunner, { type: Type }>>;
  /** Renders a span to its end. */
  render(request: SpanRequest): Promise<Extract<FromRunner, { type: 'spanEnded' }>>;
  /** Hashes of the frames of a lease, by `produced`. */
  framesOf(leaseId: string): readonly string[];
  /** While true, nothing is read from the runner after the message in hand. */
  pause(paused: boolean): void;
}

/** Makes the files. The audio has a little more than 12 clips. */
export async function makeInputs(t: TestContext): Promise<Inputs> {
  const directory = await mkdtemp(`${tmpdir()}/la-`);
  t.after(() => rm(directory, { recursive: true, force: true }));
  const checkpoint = join(directory, 'Wan2.2-S2V-14B');
  const weights = ['config.json', 'models_t5_umt5-xxl-enc-bf16.pth', 'Wan2.1_VAE.pth'];
  const parts = ['google/umt5-xxl/tokenizer_config.json', 'wav2vec2-large-xlsr-53-english/config.json'];
  for (const name of [...weights, ...parts]) {
    await mkdir(join(checkpoint, name, '..'), { recursive: true });
    await writeFile(join(checkpoint, name), '');
  }
  await writeFile(join(checkpoint, 'diffusion_pytorch_model.safetensors'), safetensors(4));
  await writeFile(join(directory, 'lora.safetensors'), safetensors(4));
  const reference = join(directory, 'reference.png');
  await writeFile(reference, png(WIDTH, HEIGHT));
  // A "+" in a path means several speakers to upstream.
  const audio = join(directory, 'talk+music.wav');
  await writeFile(audio, wav(12 * CLIP_SECONDS));
  const request = {
    ...{ leaseId: 'lease-1', jobId: 'job-1', span: 0, start: 0, end: 3, preRoll: 0, clips: 12 },
    ...{ width: WIDTH, height: HEIGHT, sampleSteps: 4, baseSeed: 420, prompt: 'a woman talks, 自然な光' },
    ...{ referencePath: reference, anchored: false, audioPath: audio, continues: null },
  };
  return { directory, checkpoint, request };
}

/** How a runner on the stand-in is started. */
export function startOptions(inputs: Inputs, args: readonly string[] = []) {
  return {
    command: PYTHON,
    args: [
      ...['-m', 'live_avatar', '--checkout', CHECKOUT, '--ckpt-dir', inputs.checkpoint],
      ...['--lora', join(inputs.directory, 'lora.safetensors'), '--dtype', 'bf16', ...args],
    ],
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '',
      PYTHONPATH: `${RUNNERS}:${STAND_IN}`,
      PYTHONDONTWRITEBYTECODE: '1',
    },
    socketDir: inputs.directory,
    helloTimeoutMs: 60_000,
  };
}

/** Starts a runner on the stand-in; it is not loaded yet. */
export async function startRig(t: TestContext, inputs: Inputs, args: readonly string[] = []): Promise<Rig> {
  const arrived: Arrived[] = [];
  let news = Promise.withResolvers<void>();
  let gate = Promise.resolve();
  let open = (): void => {};
  const runner = await RunnerProcess.start({
    ...startOptions(inputs, args),
    onStderr: (line) => t.diagnostic(line),
    onMessage: async (message, payload) => {
      const frames = message.type === 'frames' ? hashes(payload, message.count) : [];
      arrived.push({ message, frames });
      news.resolve();
      news = Promise.withResolvers<void>();
      await gate;
    },
  });
  t.after(() => runner.kill());
  const when: Rig['when'] = async (type, accept = () => true) => {
    for (;;) {
      const found = arrived.find(({ message }) => message.type === type && accept(message as never));
      if (found !== undefined) return found.message as Extract<FromRunner, { type: typeof type }>;
      await news.promise;
    }
  };
  const send: Rig['send'] = (message) => runner.send(message);
  return {
    runner,
    arrived,
    when,
    send,
    async render(request) {
      await send({ type: 'render', request });
      return when('spanEnded', ({ leaseId }) => leaseId === request.leaseId);
    },
    framesOf: (leaseId) =>
      arrived.flatMap(({ message, frames }) =>
        message.type === 'frames' && message.leaseId === leaseId ? frames : [],
      ),
    pause(paused) {
      open();
      if (paused) gate = new Promise((resolve) => (open = resolve));
    },
  };
}

/** Starts a runner and loads it. */
export async function loadedRig(t: TestContext, inputs: Inputs, args: readonly string[] = []): Promise<Rig> {
  const rig = await startRig(t, inputs, args);
  await rig.send({ type: 'load' });
  await rig.when('loaded');
  return rig;
}

function hashes(payload: Uint8Array, count: number): string[] {
  const bytes = payload.length / count;
  return Array.from({ length: count }, (_, i) =>
    createHash('sha256')
      .update(payload.subarray(i * bytes, (i + 1) * bytes))
      .digest('hex'),
  );
}

/** A file of one tensor with so many bytes. */
export function safetensors(bytes: number): Buffer {
  const header = Buffer.from(JSON.stringify({ w: { dtype: 'U8', shape: [bytes], data_offsets: [0, bytes] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(bytes)]);
}

/** The head of a picture of that size, and enough of the rest for what reads it here. */
export function png(width: number, height: number): Buffer {
  const size = Buffer.alloc(13);
  size.writeUInt32BE(width, 0);
  size.writeUInt32BE(height, 4);
  size.set([8, 2], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(13);
  return Buffer.concat([signature, length, Buffer.from('IHDR'), size, deflateSync(Buffer.alloc(3 * width * height))]);
}

/** Silence, 16 kHz mono. */
export function wav(seconds: number): Buffer {
  const bytes = Math.round(seconds * 16_000) * 2;
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + bytes, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(16_000, 24);
  head.writeUInt32LE(32_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(bytes, 40);
  return Buffer.concat([head, Buffer.alloc(bytes)]);
}
