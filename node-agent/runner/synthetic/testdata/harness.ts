import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { FromRunner, SpanRequest, ToRunner } from '../../../src/runner/protocol.ts';
import { RunnerProcess } from '../../../src/runner/runner-process.ts';
import { type ReadStamp, readStamp } from '../stamp.ts';
import { writePicture, writeWav } from './media.ts';

/** See test/run.ts. */
const { NODE_COMPILE_CACHE } = process.env;
const compileCache = NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

/** Picture size of the tests. */
const WIDTH = 256;
const HEIGHT = 128;

/** A frame as it arrived: where in the model call, what its stamp says, and a hash of its pixels. */
export interface ArrivedFrame {
  readonly produced: number;
  readonly stamp: ReadStamp | null;
  readonly sha256: string;
}

/** A synthetic runner that was started and loaded, with what it says. */
export interface Rig {
  readonly runner: RunnerProcess;
  readonly messages: readonly FromRunner[];
  readonly frames: readonly ArrivedFrame[];
  /** Sends messages, of which the runner gets the last one as soon as the first. */
  send(...messages: readonly ToRunner[]): Promise<void>;
  /** The next message of that type, from those that arrived since the last call for the type. */
  next<Type extends FromRunner['type']>(type: Type): Promise<Extract<FromRunner, { type: Type }>>;
}

/** Inputs for spans, in a directory that the test removes. */
export interface Inputs {
  readonly directory: string;
  /** A request for clips 0 to 3 of a job of 10. */
  readonly request: SpanRequest;
}

/** Makes a picture and a talk of words in the rhythm of speech. */
export async function makeInputs(t: TestContext): Promise<Inputs> {
  const directory = await mkdtemp(`${tmpdir()}/syn-`);
  t.after(() => rm(directory, { recursive: true, force: true }));
  const speech = (time: number): number => (time % 0.6 < 0.4 ? 0.4 * Math.sin(2 * Math.PI * 180 * time) : 0);
  const request = {
    leaseId: 'lease-1',
    jobId: 'job-1',
    span: 3,
    start: 0,
    end: 3,
    preRoll: 0,
    continues: null,
    clips: 10,
    width: WIDTH,
    height: HEIGHT,
    sampleSteps: 4,
    baseSeed: 420,
    prompt: 'a woman talks',
    referencePath: await writePicture(directory, WIDTH, HEIGHT),
    anchored: false,
    audioPath: await writeWav(directory, 10 * 1.92, speech),
  };
  return { directory, request };
}

/** Starts a synthetic runner with the given options and loads it. */
export async function startRig(t: TestContext, directory: string, args: readonly string[] = []): Promise<Rig> {
  const messages: FromRunner[] = [];
  const frames: ArrivedFrame[] = [];
  const taken = new Map<string, number>();
  let arrived = Promise.withResolvers<void>();
  const runner = await RunnerProcess.start({
    command: process.execPath,
    args: [MAIN, ...args],
    env: { PATH: process.env.PATH ?? '', ...compileCache },
    socketDir: directory,
    helloTimeoutMs: 60_000,
    onStderr: (line) => t.diagnostic(line),
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
    for (;;) {
      const found = messages.filter((message) => message.type === type)[skip];
      if (found !== undefined) {
        taken.set(type, skip + 1);
        return found as Extract<FromRunner, { type: typeof type }>;
      }
      await arrived.promise;
    }
  };
  const send: Rig['send'] = async (...sent) => {
    await Promise.all(sent.map((message) => runner.send(message)));
  };
  const rig: Rig = { runner, messages, frames, next, send };
  await rig.send({ type: 'load' });
  await rig.next('loaded');
  return rig;
}

function readFrames(produced: number, count: number, payload: Uint8Array): ArrivedFrame[] {
  const pixels = payload.length / 3 / count;
  return Array.from({ length: count }, (_, i) => {
    const rgb = payload.subarray(i * pixels * 3, (i + 1) * pixels * 3);
    // The green channel is as black and white as the gray of the whole.
    const green = Uint8Array.from({ length: pixels }, (_, pixel) => rgb[pixel * 3 + 1] ?? 0);
    const sha256 = createHash('sha256').update(rgb).digest('hex');
    return { produced: produced + i, stamp: readStamp(green, WIDTH, HEIGHT), sha256 };
  });
}
