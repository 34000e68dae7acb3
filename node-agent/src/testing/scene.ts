import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { Spool } from '../spool.ts';
import { AgentProcess, testAudio, testPicture } from './agent-process.ts';
import { FakeCoordinator, type GrantFields } from './fake-coordinator.ts';

/** Width and height of every picture in pixels. */
export const SIDE = 256;

/** Clips of the job. */
export const CLIPS = 12;

/** Frames of the job; its last clip has 38. */
export const FRAMES = 48 * CLIPS - 10;

/** Seed of clip 0. */
export const BASE_SEED = 1000;

/** A pace at which a lease of all clips goes on for seconds. */
export const slowly = ['--seconds-per-clip', '0.4'] as const;

/** Least that a spool may be told to hold, in bytes. */
const SMALL_SPOOL = 2 ** 20;

/** A coordinator, inputs and a state directory. */
export interface Scene {
  readonly coordinator: FakeCoordinator;
  readonly stateDir: string;
  /** What to render; part of every grant. */
  readonly task: NonNullable<GrantFields['task']>;
  /** Starts an agent. */
  start(...args: readonly string[]): AgentProcess;
  /** Starts an agent with some variables of the environment set. */
  startWith(env: Readonly<Record<string, string>>, ...args: readonly string[]): AgentProcess;
  /**
   * Starts an agent for a test that must act while a lease is rendered: however fast the agent and however late the test,
   * the second or third clip of a lease waits for room in the spool until {@link FakeCoordinator.commitAll}.
   */
  startHeldUp(): Promise<AgentProcess>;
  /** Manifests in the spool. */
  spooled(): readonly string[];
}

/** Sets the scene for one test. */
export async function scene(t: TestContext, dir?: string): Promise<Scene> {
  const agents: AgentProcess[] = [];
  // What is said first is done first: an agent must not write into a directory that is being removed.
  t.after(() => Promise.all(agents.map((agent) => agent.kill())));
  const stateDir = dir ?? temporaryDirectory(t);
  const coordinator = await FakeCoordinator.start();
  t.after(() => coordinator[Symbol.asyncDispose]());
  const task = {
    ...{ width: SIDE, height: SIDE, clips: CLIPS, frames: FRAMES, sampleSteps: 4, baseSeed: BASE_SEED },
    prompt: 'a person talks',
    reference: coordinator.input(await testPicture(SIDE, SIDE)),
    audio: coordinator.input(testAudio(1.92 * CLIPS + 0.1)),
  };
  const startWith: Scene['startWith'] = (env, ...args) => {
    const agent = AgentProcess.start(t, stateDir, coordinator.address, args, env);
    agents.push(agent);
    return agent;
  };
  return {
    ...{ coordinator, stateDir, task, startWith },
    start: (...args) => startWith({}, ...args),
    startHeldUp: async () => {
      coordinator.judge = () => null;
      await fillSpool(join(stateDir, 'spool'), coordinator.farmId, SMALL_SPOOL - 1);
      return startWith({}, '--spool-max-bytes', String(SMALL_SPOOL));
    },
    spooled: () => readdirSync(join(stateDir, 'spool')).filter((name) => name.endsWith('.json')),
  };
}

/** Leaves a chunk of so many bytes in the spool of an agent that does not run, as one of an earlier lease. */
async function fillSpool(dir: string, farmId: string, bytes: number): Promise<void> {
  const spool = await Spool.open({ dir, maxBytes: bytes, log: createLogger({ name: 'test', level: 'silent' }) });
  const file = spool.scratchPath('mp4');
  writeFileSync(file, Buffer.alloc(bytes));
  const figures = { renderSeconds: 1, peakMemoryBytes: 0, reservedMemoryBytes: 0, hostBytes: 0 };
  await spool.add(file, { kind: 'chunk', farmId, jobId: 'job-1', leaseId: 'earlier', clip: 0, frames: 48, ...figures });
}
