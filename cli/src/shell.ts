import { join } from 'node:path';
import type { Clock } from '@clipfarm/shared/clock';

/** Where a command writes: `process.stdout`, `process.stderr`, or a test's own stream. */
export interface TextStream extends NodeJS.WritableStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** What the environment says; every value has a flag that goes before it. */
export interface Environment {
  /** CLIPFARM_COORDINATOR, `host:port`. */
  readonly coordinator: string | undefined;
  /** CLIPFARM_TOKEN_FILE. */
  readonly tokenFile: string | undefined;
  /** CLIPFARM_TLS_CA. */
  readonly tlsCa: string | undefined;
  /** CLIPFARM_TLS_CERT. */
  readonly tlsCert: string | undefined;
  /** CLIPFARM_TLS_KEY. */
  readonly tlsKey: string | undefined;
  /** CLIPFARM_HOME, otherwise `.clipfarm` in the user's home directory. */
  readonly home: string;
  /** What the user types to start this program: `clipfarm`, or `npx clipfarm` where npx started it. */
  readonly program: string;
  /** True when NO_COLOR is set or TERM is `dumb`. */
  readonly plain: boolean;
}

/** Everything outside the program that a command touches, save files and the network. */
export interface Shell {
  /** Data. */
  readonly stdout: TextStream;
  /** Everything else: progress, notes, errors. */
  readonly stderr: TextStream;
  readonly environment: Environment;
  /** Variables for services that belong to a farm of their own: without those that point to another one. */
  readonly serviceEnv: NodeJS.ProcessEnv;
  /** Aborted by the first Ctrl-C, with the name of the signal as reason; whoever waits for something stops then. */
  readonly interrupted: AbortSignal;
  readonly clock: Clock;
}

/** The variables without those of this product, which name some coordinator and the ways into it. */
export function withoutOwnVariables(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('CLIPFARM_')));
}

/** Reads the variables that {@link Environment} names; empty ones count as unset. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>, homeDirectory: string): Environment {
  const value = (name: string) => env[name] || undefined;
  return {
    coordinator: value('CLIPFARM_COORDINATOR'),
    tokenFile: value('CLIPFARM_TOKEN_FILE'),
    tlsCa: value('CLIPFARM_TLS_CA'),
    tlsCert: value('CLIPFARM_TLS_CERT'),
    tlsKey: value('CLIPFARM_TLS_KEY'),
    home: value('CLIPFARM_HOME') ?? join(homeDirectory, '.clipfarm'),
    // npx says so to whatever it runs.
    program: value('npm_lifecycle_event') === 'npx' ? 'npx clipfarm' : 'clipfarm',
    plain: value('NO_COLOR') !== undefined || env.TERM === 'dumb',
  };
}
