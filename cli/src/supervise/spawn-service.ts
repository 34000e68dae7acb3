import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The services that this program starts. They are never imported, only run. */
export type ServiceName = 'coordinator' | 'agent';

/** Where a service writes: this process's own streams, or an open file. */
export type ServiceOutput = 'inherit' | number;

/** File that is run for a service. */
export function mainFile(service: ServiceName): string {
  const module = service === 'coordinator' ? '@clipfarm/coordinator/main' : '@clipfarm/node-agent/main';
  return fileURLToPath(import.meta.resolve(module));
}

/**
 * Starts a service on this process's Node. It leads a process group of its own: Ctrl-C reaches this process only, which
 * then decides in which order to stop what it started. It ends when this process ends (see exit-with-parent.ts).
 *
 * @param env its environment; this process's own unless given.
 */
export function spawnService(
  service: ServiceName,
  argv: readonly string[],
  output: ServiceOutput,
  env?: NodeJS.ProcessEnv,
): ChildProcess {
  const guard = new URL('./exit-with-parent.ts', import.meta.url).href;
  return spawn(process.execPath, ['--import', guard, mainFile(service), ...argv], {
    detached: true,
    stdio: ['ignore', output, output, 'pipe'],
    ...(env === undefined ? {} : { env }),
  });
}

/** Sends a signal to a service and everything in its process group; false when it is gone. */
export function signalGroup(child: ChildProcess, signal: NodeJS.Signals): boolean {
  if (child.pid === undefined) return false;
  try {
    return process.kill(-child.pid, signal);
  } catch {
    return false;
  }
}
