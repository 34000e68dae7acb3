import { homedir } from 'node:os';
import { systemClock } from '@clipfarm/shared/clock';
import { exitCode } from './exit-code.ts';
import { readEnvironment, type Shell, withoutOwnVariables } from './shell.ts';

/**
 * The shell of this process. It takes over SIGINT, SIGTERM and SIGHUP: the first one aborts `interrupted`, so that the
 * command can stop in order; the second one ends the process at once.
 */
export function processShell(env: NodeJS.ProcessEnv): Shell {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // The reader left, as `head` does. There is nobody to tell, and nothing went wrong.
      if (error.code === 'EPIPE') process.exit(exitCode.ok);
      // On stderr there is nobody left to tell either.
      if (stream === process.stdout) process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
      process.exit(exitCode.failure);
    });
  }
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(exitCode.interrupted);
      interrupt.abort(signal);
    });
  }
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: readEnvironment(env, homedir()),
    serviceEnv: withoutOwnVariables(env),
    interrupted: interrupt.signal,
    clock: systemClock,
  };
}
