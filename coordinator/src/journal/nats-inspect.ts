import type { NatsConnection } from 'nats';
import { isTemporary, jetStreamCode, jetStreamError } from './nats-error.ts';

/** Outcome of one check of a NATS installation. */
export interface NatsFinding {
  readonly check: string;
  /** `error`: acknowledged writes can be lost, or nothing works at all. */
  readonly level: 'ok' | 'warning' | 'error';
  readonly detail: string;
  /** What to do; only for what is not `ok`. */
  readonly fix?: string;
  /** An error that goes away by itself: servers start or elect. */
  readonly temporary?: true;
  /** An error with which nothing works, whatever an operator is ready to risk. */
  readonly hopeless?: true;
}

/** What an inspection may look at beside the connection. */
export interface InspectOptions {
  /** HTTP monitoring addresses of the servers, for example `http://10.0.0.1:8222`. */
  readonly monitors?: readonly string[];
}

/** One monitoring address gets this long. */
const MONITOR_MILLIS = 2000;

/** Part of the account's file storage from which on it is called nearly full. */
const NEARLY_FULL = 0.85;

/** Looks at what decides whether a journal in this NATS keeps what it acknowledged. Never throws for what it finds. */
export async function inspectNats(connection: NatsConnection, options: InspectOptions = {}): Promise<NatsFinding[]> {
  const syncs = await inspectSync(options.monitors ?? []);
  return [
    inspectVersion(connection.info?.version ?? ''),
    ...(await inspectJetStream(connection)),
    inspectCopies(connection),
    ...syncs,
  ];
}

/** Whether a server of this version can keep what it acknowledged. */
export function inspectVersion(version: string): NatsFinding {
  const check = 'NATS version';
  const [major = 0, minor = 0, patch = 0] = version.split(/[.-]/).map(Number);
  if (major < 2 || (major === 2 && minor < 10)) {
    return {
      check,
      level: 'error',
      detail: `${version}; it can't number the leaders' terms, nor keep acknowledged writes through a power cut`,
      fix: 'Run nats-server 2.10.23 or newer; Debian 12 has 2.9, Debian 13 a newer one.',
      hopeless: true,
    };
  }
  if (major === 2 && minor === 10 && patch >= 20 && patch <= 22) {
    return {
      check,
      level: 'error',
      detail: `${version}; 2.10.20 to 2.10.22 can lose whole streams when they crash`,
      fix: 'Run nats-server 2.10.23 or newer.',
    };
  }
  return { check, level: 'ok', detail: version };
}

async function inspectJetStream(connection: NatsConnection): Promise<NatsFinding[]> {
  const check = 'JetStream';
  try {
    const { limits, storage } = await (await connection.jetstreamManager({ checkAPI: false })).getAccountInfo();
    const findings: NatsFinding[] = [];
    if (limits.max_bytes_required) {
      findings.push({
        check,
        level: 'error',
        detail: 'the account demands a size limit for each stream, and the journal must not have one',
        fix: 'Remove max_bytes_required from the account.',
      });
    }
    const limit = limits.max_storage;
    const used = `${storage} bytes used of ${limit < 0 ? 'what the disk holds' : limit}`;
    const full = limit >= 0 && storage >= limit * NEARLY_FULL;
    const fix = 'Raise the account’s file storage limit (max_file) before it is full.';
    findings.push(full ? { check, level: 'warning', detail: used, fix } : { check, level: 'ok', detail: used });
    return findings;
  } catch (error) {
    const code = jetStreamCode(error);
    const off = code === jetStreamError.notEnabled || code === jetStreamError.notEnabledForAccount;
    const reason = error instanceof Error ? error.message : String(error);
    // A server that has JetStream says so when it is connected to; while it starts or elects, nobody answers all the same.
    if (!off && connection.info?.jetstream === true && isTemporary(error)) {
      const fix = 'Check that most of the NATS servers run and see each other.';
      return [{ check, level: 'error', detail: `no answer: ${reason}`, fix, temporary: true }];
    }
    return [
      {
        check,
        level: 'error',
        detail: off || reason === '503' ? 'not enabled, or not for this account' : reason,
        fix: 'Start the servers with JetStream (a jetstream block in the configuration) and enable it for the account.',
      },
    ];
  }
}

function inspectCopies(connection: NatsConnection): NatsFinding {
  const check = 'NATS servers';
  if (connection.info?.cluster === undefined) {
    return {
      check,
      level: 'warning',
      detail: 'one server alone: its disk is the only copy',
      fix: 'Run a cluster of three on separate hosts, or back the store up.',
    };
  }
  return { check, level: 'ok', detail: `cluster ${connection.info.cluster}` };
}

/**
 * Whether every write is synced before it is acknowledged. A client can't ask for it over its connection: only the
 * system account may, and that one has no JetStream. The monitoring port tells it.
 */
async function inspectSync(monitors: readonly string[]): Promise<NatsFinding[]> {
  const fix = 'Set in the jetstream block of every server: sync_interval: always';
  if (monitors.length === 0) {
    const ask = 'Give the HTTP monitoring of every server: --nats-monitor http://HOST:8222[,URL...]';
    return [{ check: 'NATS sync', level: 'warning', detail: 'unknown: no monitoring address was given', fix: ask }];
  }
  return await Promise.all(
    monitors.map(async (monitor): Promise<NatsFinding> => {
      const check = `NATS sync at ${monitor}`;
      try {
        const response = await fetch(new URL('/varz', monitor), { signal: AbortSignal.timeout(MONITOR_MILLIS) });
        const { jetstream } = (await response.json()) as { jetstream?: { config?: { sync_always?: boolean } } };
        if (jetstream?.config === undefined) {
          const detail =
            'unknown: JetStream does not run on this server; a disk that fails a write stops it, a full one, too';
          return { check, level: 'warning', detail, fix: 'See its log, mend what that says, and restart that server.' };
        }
        if (jetstream.config.sync_always === true) return { check, level: 'ok', detail: 'always' };
        return { check, level: 'error', detail: 'not always: a power cut loses acknowledged writes', fix };
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        return { check, level: 'warning', detail: `unknown: ${reason}`, fix };
      }
    }),
  );
}
