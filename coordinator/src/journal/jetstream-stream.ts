import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { type JetStreamManager, StorageType, type StreamConfig, type StreamInfo } from 'nats';
import { isTemporary, jetStreamCode, jetStreamError, natsFarmError } from './nats-error.ts';
import { pause } from './pause.ts';

/** What a stream must be like. */
export interface WantedStream {
  readonly name: string;
  /** Checked where the stream is there already. */
  readonly settings: Partial<StreamConfig>;
  /** Only for a stream that is made. @default none */
  readonly initial?: Partial<StreamConfig>;
}

/** What making sure of a stream needs. */
export interface EnsureParts {
  readonly jsm: JetStreamManager;
  /** Go on with a warning when a stream is not as wanted. */
  readonly allowUnsafe: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A cluster that starts takes some seconds until its servers have agreed on a leader, and it knows what each of them can hold. */
const PATIENCE_MILLIS = 15_000;

/** Settings under which JetStream neither loses nor drops a message by itself. */
export function durableSettings(replicas: number): Partial<StreamConfig> {
  return {
    storage: StorageType.File,
    num_replicas: replicas,
    max_msgs: -1,
    max_bytes: -1,
    // Any replica could answer direct gets, and answer with what is no longer the last.
    allow_direct: false,
  };
}

/**
 * The stream as wanted, made if it is not there.
 *
 * @throws FarmError `failed_precondition` naming every setting that differs, unless `allowUnsafe`; `unavailable` when
 * NATS does not answer.
 */
export async function ensureStream(parts: EnsureParts, wanted: WantedStream): Promise<StreamInfo> {
  const { jsm, clock, log, allowUnsafe } = parts;
  const info = await whenFormed(clock, () => findOrAdd(jsm, wanted)).catch((error: unknown) => {
    throw addError(error, wanted);
  });
  const differences = differencesOf(info.config, wanted);
  if (differences.length === 0) return info;
  const message = `JetStream stream ${wanted.name} is not as the journal needs it: ${differences.join('; ')}`;
  if (!allowUnsafe) {
    throw new FarmError('failed_precondition', message, { hint: `Change it with: nats stream edit ${wanted.name}` });
  }
  log.warn(message);
  return info;
}

/** Repeats what makes a stream while the cluster may only be on its way to being complete. */
export async function whenFormed<T>(clock: Clock, attempt: () => Promise<T>): Promise<T> {
  const deadline = clock.monotonic() + PATIENCE_MILLIS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const mayPass = isTemporary(error) || jetStreamCode(error) === jetStreamError.noSuitablePeers;
      if (!mayPass || clock.monotonic() > deadline) throw error;
      await pause(clock, 200);
    }
  }
}

async function findOrAdd(jsm: JetStreamManager, wanted: WantedStream): Promise<StreamInfo> {
  try {
    return await jsm.streams.info(wanted.name);
  } catch (error) {
    if (jetStreamCode(error) !== jetStreamError.streamNotFound) throw error;
  }
  try {
    return await jsm.streams.add({ name: wanted.name, ...wanted.settings, ...wanted.initial });
  } catch (error) {
    // Another coordinator was first.
    if (jetStreamCode(error) === jetStreamError.streamNameInUse) return await jsm.streams.info(wanted.name);
    throw error;
  }
}

/**
 * What differs from what is wanted, in words, setting by setting.
 *
 * An older server ignores what it does not know, so its answer is checked also where the stream was just made.
 */
export function differencesOf(found: FoundConfig, { settings }: WantedStream): string[] {
  const differences = Object.entries(settings).flatMap(([key, value]) => {
    const actual: unknown = found[key as keyof StreamConfig];
    if (JSON.stringify(actual) === JSON.stringify(value)) return [];
    return [`${key} is ${JSON.stringify(actual)}, needed is ${JSON.stringify(value)}`];
  });
  const { persist_mode = 'default' } = found;
  if (settings.storage === undefined || persist_mode === 'default') return differences;
  return [
    ...differences,
    `persist_mode is ${JSON.stringify(persist_mode)}, needed is "default", which is fixed when a stream is made`,
  ];
}

/** Settings of a stream as a server tells them. */
export interface FoundConfig extends StreamConfig {
  /** From 2.12 on. With `async` it acknowledges what is not on the disk, whatever `sync_interval` says. @default 'default' */
  readonly persist_mode?: string;
}

function addError(error: unknown, wanted: WantedStream): FarmError {
  const code = jetStreamCode(error);
  if (code === jetStreamError.replicasWithoutCluster || code === jetStreamError.noSuitablePeers) {
    const message = `replicas: ${wanted.settings.num_replicas}; this NATS has fewer servers that can hold a copy`;
    return new FarmError('failed_precondition', message, {
      field: 'replicas',
      hint: 'Start more NATS servers with JetStream in the cluster, or ask for fewer replicas. If there are enough, one is not among the members (nats server report jetstream): restart that one.',
      cause: error,
    });
  }
  return natsFarmError(error, `opening JetStream stream ${wanted.name}`);
}
