import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import type { NatsConnection } from 'nats';
import { eventStream, leaderStream, snapshotStream } from './jetstream-layout.ts';
import { type JetStreamNames, jetStreamNames } from './jetstream-names.ts';
import { differencesOf, type WantedStream } from './jetstream-stream.ts';
import { jetStreamCode, jetStreamError, natsFarmError } from './nats-error.ts';
import { inspectNats, inspectVersion, type NatsFinding } from './nats-inspect.ts';
import { connectNats, type NatsOptions } from './nats-link.ts';
import { checkPermissions } from './nats-permissions.ts';
import { checkWriting } from './nats-trial.ts';
import { wantedReplicas } from './open-jetstream-journal.ts';

/** What is to be checked, as the coordinator would use it. */
export interface NatsCheckOptions extends Omit<NatsOptions, 'log'> {
  readonly prefix: string;
  readonly replicas?: number;
}

/** Answers slower than this make every event slow. */
const SLOW_MILLIS = 50;

/** So many answers are timed; the fastest counts, because any of them may have met a moment in which a machine was busy. */
const ANSWERS = 5;

const REQUEST_MILLIS = 5000;

/**
 * Checks whether a farm could keep its journal in this NATS: each server, JetStream, durability, copies, permissions, streams,
 * and what a write costs. It writes to a stream of its own, which it removes, and to nothing of the farm. Never throws for what
 * it finds.
 */
export async function checkNats(options: NatsCheckOptions): Promise<readonly NatsFinding[]> {
  const names = jetStreamNames(options.prefix);
  const quiet = { ...options, log: createLogger({ name: 'check', level: 'silent' }) };
  const servers = await Promise.all(options.servers.map((server) => checkServer(server, quiet)));
  let connection: NatsConnection;
  let close: () => Promise<void>;
  try {
    const link = await connectNats(quiet);
    connection = link.connection;
    close = () => link.close();
  } catch (error) {
    return [...servers, failure('NATS connection', error)];
  }
  try {
    const about = await inspectNats(connection, options.monitors === undefined ? {} : { monitors: options.monitors });
    const usable = !about.some(({ check, level }) => check === 'JetStream' && level === 'error');
    const replicas = wantedReplicas(connection, options.replicas);
    const rest = usable
      ? [
          ...(await checkStreams(connection, names, replicas)),
          ...(await checkPermissions(connection, options.prefix, names)),
          ...(await checkWriting(connection, names, replicas, options.clock)),
        ]
      : [];
    return [...servers, ...about.filter(({ check }) => check !== 'NATS version'), ...rest];
  } finally {
    await close();
  }
}

/** Whether one server answers, how fast, and whether it is new enough. */
async function checkServer(server: string, options: NatsOptions): Promise<NatsFinding> {
  const check = `NATS server ${server.replace(/^\w+:\/\//, '')}`;
  try {
    const { connection, close } = await connectOnce(server, options);
    try {
      const version = inspectVersion(connection.info?.version ?? '');
      const millis = Math.round(await fastestAnswer(connection, options.clock));
      const detail = `${connection.info?.server_name} ${version.detail}, answers in ${millis} ms`;
      if (version.level !== 'ok' || millis <= SLOW_MILLIS) return { ...version, check, detail };
      const fix = 'Put NATS nearer to the coordinators: each event waits for it.';
      return { check, level: 'warning', detail, fix };
    } finally {
      await close();
    }
  } catch (error) {
    return failure(check, error);
  }
}

/** Milliseconds. */
async function fastestAnswer(connection: NatsConnection, clock: Clock): Promise<number> {
  const times: number[] = [];
  while (times.length < ANSWERS) {
    const asked = clock.monotonic();
    await connection.flush();
    times.push(clock.monotonic() - asked);
  }
  return Math.min(...times);
}

async function connectOnce(server: string, options: NatsOptions) {
  const link = await connectNats({ ...options, servers: [server], only: true });
  return { connection: link.connection, close: () => link.close() };
}

/** Whether the farm's streams, where they are there, are as the journal needs them. */
async function checkStreams(
  connection: NatsConnection,
  names: JetStreamNames,
  replicas: number,
): Promise<NatsFinding[]> {
  const { streams } = await connection.jetstreamManager({ timeout: REQUEST_MILLIS, checkAPI: false });
  const wanted = [
    eventStream(names, replicas),
    snapshotStream(names, replicas),
    leaderStream(names, replicas, 5000, 1),
  ];
  const look = async (stream: WantedStream): Promise<NatsFinding> => {
    const check = `stream ${stream.name}`;
    try {
      const { config, state, cluster } = await streams.info(stream.name);
      const differences = differencesOf(config, stream);
      if (differences.length > 0) {
        const fix = `nats stream edit ${stream.name}, or start the coordinators with the settings that it was made with`;
        return { check, level: 'error', detail: differences.join('; '), fix };
      }
      const lagging = (cluster?.replicas ?? []).filter(({ current, offline }) => !current || offline === true);
      const detail = `${state.messages} messages, ${state.bytes} bytes, ${replicas} ${replicas === 1 ? 'copy' : 'copies'}`;
      if (lagging.length === 0) return { check, level: 'ok', detail };
      const which = lagging.map(({ name }) => name).join(', ');
      const fix = 'Start that server; until it has caught up, the loss of another one stops the farm.';
      return { check, level: 'warning', detail: `${detail}; not up to date on ${which}`, fix };
    } catch (error) {
      if (jetStreamCode(error) === jetStreamError.streamNotFound) {
        return { check, level: 'ok', detail: 'not there yet; the first coordinator makes it' };
      }
      return failure(check, natsFarmError(error, 'looking at it'));
    }
  };
  return Promise.all(wanted.map(look));
}

function failure(check: string, thrown: unknown): NatsFinding {
  const { message, hint } = FarmError.from(thrown);
  const fix = hint ?? 'See the log of the NATS server.';
  return { check, level: 'error', detail: message, fix };
}
