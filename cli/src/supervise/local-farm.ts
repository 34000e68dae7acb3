import { closeSync, fstatSync, mkdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '@clipfarm/shared/clock';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { makeOwnDirectory } from '@clipfarm/shared/own-directory';
import { exitCode } from '../exit-code.ts';
import { openLog, tailOfLog } from './log-file.ts';
import { type ServiceName, spawnService } from './spawn-service.ts';
import { Supervised } from './supervised.ts';

/** A synthetic agent of a {@link LocalFarm}. */
export interface LocalAgent {
  readonly name: string;
  /** Render slots. */
  readonly slots: number;
  /** Seconds that rendering one clip takes. */
  readonly secondsPerClip: number;
  /** Seconds from the start of a lease to its first clip; undefined leaves the agent's default. */
  readonly warmUpSeconds: number | undefined;
}

/** A coordinator and agents on this machine. */
export interface LocalFarmOptions {
  /** Holds everything: journal, artifacts, agents' state, logs. Made when missing. */
  readonly dataDir: string;
  /** `host:port`; port 0 lets the system choose. */
  readonly listen: string;
  /** `host:port` of metrics and health. */
  readonly admin: string;
  readonly agents: readonly LocalAgent[];
  readonly tokenFile: string | undefined;
  /** How long the coordinator keeps finished jobs, in its own words; undefined leaves its default. */
  readonly retainHours: string | undefined;
  /** The same for inputs that no job needs. */
  readonly retainInputsHours: string | undefined;
  /** Environment of the processes. */
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  /** Ends the start. */
  readonly signal: AbortSignal;
  /** Told when a process ended and is started again. */
  readonly onRestart: (text: string) => void;
}

/** See {@link startLocalFarm}. */
export interface LocalFarm {
  /** Where the coordinator listens, `host:port`. */
  readonly listen: string;
  /** Where metrics and health are, `host:port`. */
  readonly admin: string;
  /** Resolves when a process ended for good, with the reason. */
  readonly failed: Promise<FarmError>;
  /** Stops the agents, then the coordinator, which takes their last clips. Resolves when all are gone. */
  stop(): Promise<void>;
}

interface Addresses {
  readonly listen: string;
  readonly admin: string;
}

/** Milliseconds in which the coordinator must be ready. */
const READY_MS = 60_000;

/** Milliseconds that an agent has to hand in the clip in hand. */
const AGENT_GRACE_MS = 20_000;

/** Milliseconds that the coordinator has to close its journal. */
const COORDINATOR_GRACE_MS = 10_000;

/** Directory of the logs in a data directory. */
export function logDirectory(dataDir: string): string {
  return join(dataDir, 'logs');
}

/**
 * Starts a coordinator, waits until it is ready, and starts agents that dial it. Each is a process of its own, started
 * again when it ends.
 *
 * @throws FarmError with the end of its log when the coordinator does not start: `invalid_argument` when it refused its
 * options, `failed_precondition` otherwise. Nothing is left running then.
 */
export async function startLocalFarm(options: LocalFarmOptions): Promise<LocalFarm> {
  const { dataDir, clock } = options;
  await makeDirectories(dataDir);
  const readyFile = join(dataDir, 'run', 'coordinator.json');
  rmSync(readyFile, { force: true });
  const failure = Promise.withResolvers<FarmError>();
  let addresses: Addresses = { listen: options.listen, admin: options.admin };
  const access = flag('--token-file', options.tokenFile);

  let isReady = false;
  const supervise = (name: string, service: ServiceName, argv: () => readonly string[]): Supervised => {
    const log = join(logDirectory(dataDir), `${name}.log`);
    // Where the words of the latest start begin: earlier ones speak of something else.
    let from = 0;
    return new Supervised({
      name,
      clock,
      start: () =>
        withLog(log, (output) => {
          from = fstatSync(output).size;
          return spawnService(service, argv(), output, options.env);
        }),
      worthRestart: () => isReady,
      onEnd: options.onRestart,
      onGiveUp: (text, code) => failure.resolve(startFailure(text, code, log, from)),
    });
  };

  const coordinator = supervise('coordinator', 'coordinator', () => [
    ...['--listen', addresses.listen, '--admin', addresses.admin],
    ...['--data-dir', join(dataDir, 'coordinator'), '--ready-file', readyFile],
    ...flag('--retain-hours', options.retainHours),
    ...flag('--retain-inputs-hours', options.retainInputsHours),
    ...access,
  ]);
  const agents: Supervised[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(agents.map((agent) => agent.stop(AGENT_GRACE_MS)));
    await coordinator.stop(COORDINATOR_GRACE_MS);
  };
  try {
    // From here on a restart takes the same ports, so that agents and users find it again.
    addresses = await ready(readyFile, failure.promise, options);
    isReady = true;
  } catch (error) {
    await stop();
    throw error;
  }
  for (const agent of options.agents) {
    agents.push(supervise(agent.name, 'agent', () => [...agentArgv(agent, dataDir, addresses.listen), ...access]));
  }
  return { ...addresses, failed: failure.promise, stop };
}

async function makeDirectories(dataDir: string): Promise<void> {
  await makeOwnDirectory(dataDir, '--data-dir');
  try {
    for (const directory of ['run', 'logs', 'agents']) mkdirSync(join(dataDir, directory), { recursive: true });
  } catch (error) {
    throw diskError(error, `use ${dataDir} as data directory`);
  }
}

function agentArgv(agent: LocalAgent, dataDir: string, coordinator: string): string[] {
  return [
    ...['--coordinator', coordinator, '--name', agent.name, '--pool', 'local'],
    ...['--state-dir', join(dataDir, 'agents', agent.name), '--admin', '127.0.0.1:0'],
    ...['--profile', 'synthetic', '--slots', String(agent.slots)],
    ...['--seconds-per-clip', String(agent.secondsPerClip)],
    ...flag('--warm-up-seconds', agent.warmUpSeconds?.toString()),
  ];
}

/** A flag with its value, where there is one; in one word, because a value may begin with a dash. */
function flag(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`${name}=${value}`];
}

function withLog<T>(path: string, use: (output: number) => T): T {
  const output = openLog(path);
  try {
    return use(output);
  } finally {
    closeSync(output);
  }
}

/** Where a service names its own help, the options are those of whoever started it. */
const OWN_HELP = /clipfarm (?:coordinator|agent) --help/;

/** The error for a service that ended for good, in the service's own words where its log ends with some. */
function startFailure(text: string, code: number | null, log: string, from: number): FarmError {
  const tail = tailOfLog(log, 20, from);
  const last = (label: string) => tail.findLast((line) => line.startsWith(label))?.slice(label.length);
  const error = last('error: ');
  const own = error === undefined ? undefined : last('try: ')?.replace(OWN_HELP, 'clipfarm up --help');
  // A refused option is the user's own; neither how the process ended nor its log says more.
  if (error !== undefined && code === exitCode.usage) {
    return new FarmError('invalid_argument', error, { hint: own ?? 'clipfarm up --help' });
  }
  const hint = own === undefined ? `The whole log is ${log}` : `${own.replace(/\.$/, '')}; the whole log is ${log}`;
  return new FarmError('failed_precondition', error === undefined ? text : `${text}: ${error}`, { hint });
}

/** Waits for the file that the coordinator writes when it is ready. */
async function ready(path: string, failed: Promise<FarmError>, options: LocalFarmOptions): Promise<Addresses> {
  const { clock, signal } = options;
  const deadline = clock.monotonic() + READY_MS;
  let failure: FarmError | undefined;
  void failed.then((error) => {
    failure = error;
  });
  while (clock.monotonic() < deadline) {
    if (failure !== undefined) throw failure;
    const found = parseReady(await readFile(path, 'utf8').catch(() => ''));
    if (found !== undefined) return found;
    await sleep(50, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw new FarmError('unavailable', 'interrupted while the coordinator was starting');
  }
  const log = join(logDirectory(options.dataDir), 'coordinator.log');
  throw new FarmError('failed_precondition', `the coordinator was not ready within ${READY_MS / 1000} s`, {
    hint: `Its log is ${log}`,
  });
}

function parseReady(text: string): Addresses | undefined {
  if (text === '') return undefined;
  const value: unknown = JSON.parse(text);
  const isObject = value !== null && typeof value === 'object';
  if (!isObject || !('listen' in value) || !('admin' in value)) return undefined;
  return { listen: String(value.listen), admin: String(value.admin) };
}
