import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

interface Proc {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** Every process of this machine that is not a zombie. Linux only, as the tests are. */
function processes(): Proc[] {
  return readdirSync('/proc').flatMap((name): Proc[] => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z') return [];
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
      return [{ pid: Number(name), parent: Number(parent), command }];
    } catch {
      return [];
    }
  });
}

/** Processes below `pid` (and itself, if asked), as long as they live. */
export function descendants(pid: number | undefined, inclusive = false): number[] {
  const all = processes();
  const below = (parent: number | undefined): number[] =>
    all.filter((p) => p.parent === parent).flatMap((p) => [p.pid, ...below(p.pid)]);
  const own = inclusive ? all.filter((p) => p.pid === pid).map((p) => p.pid) : [];
  return [...own, ...below(pid)];
}

/** Which of these processes still run. */
export function alive(pids: readonly number[]): number[] {
  const all = new Set(processes().map(({ pid }) => pid));
  return pids.filter((pid) => all.has(pid));
}

/** Stops a process that runs, and waits until it stands still: the signal alone leaves it time for another answer. */
export async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const tasks = `/proc/${pid}/task`;
  const stands = (task: string): boolean => {
    try {
      return /^State:\tT/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8'));
    } catch {
      // A thread that has just ended: the next look is without it.
      return false;
    }
  };
  while (!readdirSync(tasks).every(stands)) await sleep(5);
}

/** Kills one runner of an agent without warning. @returns whether there was one */
export function killOneRunner(agentPid: number | undefined): boolean {
  const below = new Set(descendants(agentPid));
  const runner = processes().find((p) => below.has(p.pid) && p.command.includes('runner/synthetic'));
  if (runner) process.kill(runner.pid, 'SIGKILL');
  return runner !== undefined;
}
