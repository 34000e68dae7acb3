import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** True while a process runs. A zombie, which waits for a parent that may never look, doesn't. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return processState(pid) !== 'Z';
}

/** Resolves when a process no longer runs. */
export async function ended(pid: number): Promise<void> {
  while (isRunning(pid)) await sleep(5);
}

function processState(pid: number): string | undefined {
  try {
    // The name before the state is in parentheses and may hold anything.
    return /\) (\S)[^)]*$/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
  } catch {
    // Not Linux, or gone.
    return undefined;
  }
}
