import { once } from 'node:events';
import { constants } from 'node:os';
import { FarmError } from '@clipfarm/shared/errors';
import type { Shell } from '../shell.ts';
import { type ServiceName, spawnService } from '../supervise/spawn-service.ts';
import { act, type Register } from './register.ts';

const descriptions: Readonly<Record<ServiceName, string>> = {
  coordinator:
    'Runs a coordinator: takes jobs, hands out clips, puts the video together. Its own --help has the options.',
  agent: 'Runs a node agent: renders clips on this host for a coordinator. Its own --help has the options.',
};

/** `clipfarm coordinator` and `clipfarm agent`, as far as help and misplaced options go; see {@link runService}. */
export const registerServices: Register = (program, run) => {
  for (const [name, description] of Object.entries(descriptions)) {
    const command = program.command(name).description(description).allowUnknownOption().allowExcessArguments();
    act(command, run, async () => {
      throw new FarmError('invalid_argument', `${name} takes its options after its name`, {
        field: name,
        hint: `clipfarm ${name} --help`,
      });
    });
  }
};

/**
 * Runs a service in place of this process when the command line begins with its name: same streams, same exit code, and
 * an interrupt is handed on.
 *
 * @returns its exit code (128 and the signal's number when a signal ended it); undefined for any other command line.
 */
export async function runService(argv: readonly string[], shell: Shell): Promise<number | undefined> {
  const [name, ...rest] = argv;
  if (name !== 'coordinator' && name !== 'agent') return undefined;
  const child = spawnService(name, rest, 'inherit');
  // SIGHUP would end a service at once; these two it takes for the wish to end in order.
  const forward = () => void child.kill(shell.interrupted.reason === 'SIGINT' ? 'SIGINT' : 'SIGTERM');
  shell.interrupted.addEventListener('abort', forward, { once: true });
  // What it does to the service is the service's business, and it must not end this process in its place.
  const handOn = (name: NodeJS.Signals) => void child.kill(name);
  process.on('SIGUSR2', handOn);
  const [code, signal] = await once(child, 'exit');
  process.removeListener('SIGUSR2', handOn);
  shell.interrupted.removeEventListener('abort', forward);
  if (typeof code === 'number') return code;
  return 128 + (constants.signals[signal as NodeJS.Signals] ?? 0);
}
