import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
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

/** The pace of a test that must act while clips are rendered. */
export const slowly = ['--seconds-per-clip', '0.4'] as const;

/** A coordinator, inputs and a state directory. */
export interface Scene {
  readonly coordinator: FakeCoordinator;
  readonly stateDir: string;
  /** What to render; part of every grant. */
  readonly task: NonNullable<GrantFields['task']>;
  /** Starts an agent. */
  start(...args: readonly string[]): AgentProcess;
  /** Manifests in the spool. */
  spooled(): readonly string[];
}

/** Sets the scene for one test. */
export async function scene(t: TestContext, stateDir: string = temporaryDirectory(t)): Promise<Scene> {
  const coordinator = await FakeCoordinator.start();
  t.after(() => coordinator[Symbol.asyncDispose]());
  const task = {
    ...{ width: SIDE, height: SIDE, clips: CLIPS, frames: FRAMES, sampleSteps: 4, baseSeed: BASE_SEED },
    prompt: 'a person talks',
    reference: coordinator.input(await testPicture(SIDE, SIDE)),
    audio: coordinator.input(testAudio(1.92 * CLIPS + 0.1)),
  };
  return {
    ...{ coordinator, stateDir, task },
    start: (...args) => AgentProcess.start(t, stateDir, coordinator.address, args),
    spooled: () => readdirSync(join(stateDir, 'spool')).filter((name) => name.endsWith('.json')),
  };
}
