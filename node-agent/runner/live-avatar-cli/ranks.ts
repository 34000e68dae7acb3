import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { FarmError } from '@clipfarm/shared/errors';
import { z } from 'zod';
import { lastOutput } from '../../src/runner/last-output.ts';
import { outputLines } from '../../src/runner/output-lines.ts';
import type { RankCommand } from './command.ts';
import type { RankEnd } from './failure.ts';

/** The running processes of a model call. */
export interface Ranks {
  /** Id of their process group. */
  readonly group: number;
  /**
   * Settles when all of them and everything that they started are gone and their output is read: with the one that
   * failed first, or null when all ended with status 0. Rejects with FarmError `failed_precondition` when one could not
   * be started.
   */
  readonly ended: Promise<RankEnd | null>;
  /** Kills the whole group at once. */
  kill(): void;
}

const GUARD = fileURLToPath(new URL('guard.ts', import.meta.url));

/** Milliseconds that output may still arrive after the processes are gone. */
const LAST_OUTPUT_MS = 2000;

const reported = z.object({
  rank: z.number().int(),
  code: z.number().int().nullable(),
  signal: z.string().nullable(),
  error: z.string().optional(),
});

/**
 * Starts the processes of a model call in a group of their own that does not outlive this process. As torchrun does, it
 * ends all of them when one fails, because the others would wait for it forever.
 *
 * @param cwd folder to run in
 * @param onLine takes every line that a process prints
 */
export function startRanks(
  commands: readonly RankCommand[],
  cwd: string,
  onLine: (rank: number, line: string) => void,
): Ranks {
  const guard = spawn(process.execPath, [GUARD], {
    detached: true,
    // Each process brings its own.
    env: {},
    stdio: ['pipe', 'ignore', 'inherit', 'pipe', ...commands.flatMap(() => ['pipe', 'pipe'] as const)],
  });
  const group = guard.pid;
  if (group === undefined)
    throw new FarmError('failed_precondition', 'the guard of the processes could not be started');
  const kill = (): void => killGroup(group);
  for (const [i, { rank }] of commands.entries()) {
    for (const stream of [pipeOf(guard, 4 + 2 * i), pipeOf(guard, 5 + 2 * i)]) {
      const lines = outputLines((line) => onLine(rank, line));
      stream.on('data', (bytes: Uint8Array) => lines.push(bytes));
      stream.on('end', () => lines.end());
    }
  }
  let first: z.infer<typeof reported> | null = null;
  createInterface(pipeOf(guard, 3)).on('line', (line) => {
    const end = reported.parse(JSON.parse(line));
    if (end.code === 0 || first !== null) return;
    first = end;
    kill();
  });
  // A guard that is gone can't take it; its end says so.
  guard.stdin?.on('error', () => {});
  guard.stdin?.write(`${JSON.stringify({ commands, cwd })}\n`);
  const closed = new Promise<void>((resolve) => guard.once('close', () => resolve()));
  const exited = new Promise<number | null>((resolve) => {
    guard.once('error', () => resolve(null));
    guard.once('exit', resolve);
  });
  const ended = exited.then(async (code) => {
    // What a process left behind, such as an encoder of a saver that died.
    kill();
    await lastOutput(closed, LAST_OUTPUT_MS);
    if (first?.error !== undefined) {
      throw new FarmError('failed_precondition', `cannot run ${commands[0]?.command}: ${first.error}`);
    }
    if (first !== null || code === 0) return first;
    return { rank: 0, code: null, signal: 'SIGKILL' };
  });
  return { group, ended, kill };
}

function pipeOf(guard: ChildProcess, descriptor: number): Readable {
  const stream = guard.stdio[descriptor];
  if (stream instanceof Readable) return stream;
  throw new FarmError('internal', `descriptor ${descriptor} of the guard is no pipe`);
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    // ESRCH: nobody is left. macOS says EPERM of a group that holds nothing but zombies.
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code !== 'ESRCH' && code !== 'EPERM') throw error;
  }
}
