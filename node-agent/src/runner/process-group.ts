import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { FarmError } from '@clipfarm/shared/errors';
import { lastOutput } from './last-output.ts';
import { outputLines } from './output-lines.ts';

/** How {@link startGroup} starts a program. */
export interface GroupOptions {
  /** Program, looked up on the PATH of `env`; no shell is involved. */
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Takes every line that the group prints, on standard output or error. */
  readonly onLine: (line: string) => void;
}

/** How a process ended: its exit status, or the signal that ended it. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running program and everything that it starts. */
export interface ProcessGroup {
  /** Process id of the program, which is also the id of the group. */
  readonly pid: number;
  /** Settles once the program is gone, the rest of its group is killed and their output is read. Never rejects. */
  readonly exited: Promise<ProcessEnd>;
  /** Sends a signal to every process of the group; does nothing when none is left. */
  signal(signal: NodeJS.Signals): void;
  /** The last few lines of output. */
  lastLines(): readonly string[];
}

const LAST_LINES = 5;

/** Milliseconds that output may still arrive after the program is gone: someone outside the group may hold the pipe. */
const LAST_OUTPUT_MS = 1000;

/**
 * Starts a program as the leader of a process group of its own: a signal to the group reaches what the program starts,
 * and an interrupt from the terminal that the agent runs in does not. Standard input is empty.
 *
 * @throws FarmError `failed_precondition` when the program can't be run.
 */
export async function startGroup({ command, args, env, onLine }: GroupOptions): Promise<ProcessGroup> {
  const child = spawnChild(command, args, env);
  const lastLines: string[] = [];
  readLines(child, (line) => {
    lastLines.push(line);
    if (lastLines.length > LAST_LINES) lastLines.shift();
    onLine(line);
  });
  const outputRead = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const ended = new Promise<ProcessEnd>((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
  const pid = await spawned(child, command);
  const signal = (name: NodeJS.Signals): void => signalGroup(pid, name);
  return {
    pid,
    signal,
    exited: ended.then(async (end) => {
      signal('SIGKILL');
      await lastOutput(outputRead, LAST_OUTPUT_MS);
      return end;
    }),
    lastLines: () => [...lastLines],
  };
}

type Child = ChildProcessByStdio<null, Readable, Readable>;

function spawnChild(command: string, args: readonly string[], env: Readonly<Record<string, string>>): Child {
  try {
    return spawn(command, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    // Node throws at once for what it can't pass on, such as a zero byte in an argument.
    throw cannotRun(command, error);
  }
}

function readLines(child: Child, onLine: (line: string) => void): void {
  for (const stream of [child.stdout, child.stderr]) {
    const lines = outputLines(onLine);
    stream.on('data', (bytes: Uint8Array) => lines.push(bytes));
    stream.on('end', () => lines.end());
  }
}

function spawned(child: Child, command: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(child.pid ?? 0));
    child.once('error', (error) => reject(cannotRun(command, error)));
  });
}

function cannotRun(command: string, cause: unknown): FarmError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FarmError('failed_precondition', `cannot run ${command}: ${reason}`, { field: 'command', cause });
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // ESRCH: nobody is left. macOS says EPERM of a group that holds nothing but zombies.
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code !== 'ESRCH' && code !== 'EPERM') throw error;
  }
}
