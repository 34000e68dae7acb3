import { randomUUID } from 'node:crypto';
import type { Clock } from '@clipfarm/shared/clock';
import type { JetStreamManager, NatsConnection } from 'nats';
import { AckPolicy, nanos } from 'nats';
import type { JetStreamNames } from './jetstream-names.ts';
import { durableSettings, whenFormed } from './jetstream-stream.ts';
import { jetStreamCode, jetStreamError, natsFarmError } from './nats-error.ts';
import type { NatsFinding } from './nats-inspect.ts';

/** Writes that are timed; few, because each one waits for the disk of every server. */
const WRITES = 20;

/** As large as an event with its surroundings. */
const WRITE_BYTES = 500;

/** A write that takes longer makes each decision of the farm wait noticeably. */
const SLOW_WRITE_MILLIS = 100;

/** Clocks that are further apart make times in events and reports misleading. */
const CLOCK_MILLIS = 2000;

/** Should it not be removed, what is in it goes by itself. */
const KEPT_MILLIS = 3_600_000;

const REQUEST_MILLIS = 5000;

/** Keeps as many copies as the farm would, for a moment: writes, reads back, and compares the clocks. */
export async function checkWriting(
  connection: NatsConnection,
  names: JetStreamNames,
  replicas: number,
  clock: Clock,
): Promise<NatsFinding[]> {
  const jsm = await connection.jetstreamManager({ timeout: REQUEST_MILLIS, checkAPI: false });
  // Within the farm's own names, because a user may be allowed no others.
  const name = `${names.events}_CHECK_${randomUUID().slice(0, 8)}`;
  const subject = `${names.terms}.check.${randomUUID().slice(0, 8)}`;
  const copies = `${replicas} ${replicas === 1 ? 'copy' : 'copies'}`;
  try {
    const settings = { ...durableSettings(replicas), max_age: nanos(KEPT_MILLIS) };
    await whenFormed(clock, () => jsm.streams.add({ name, subjects: [subject], ...settings }));
  } catch (error) {
    return [noCopies(error, replicas)];
  }
  try {
    const { times, last } = await timeWrites(connection, subject, clock);
    const skew = await clockSkew(jsm, name, last);
    await readBack(connection, jsm, name);
    return [
      { check: 'NATS copies', level: 'ok', detail: `a stream with ${copies} can be made, written and read` },
      writeFinding(times),
      clockFinding(skew),
    ];
  } catch (error) {
    const { message, hint } = natsFarmError(error, `trying a stream with ${copies}`);
    const fix = hint ?? 'See the log of the NATS server.';
    return [{ check: 'NATS copies', level: 'error', detail: message, fix }];
  } finally {
    await jsm.streams.delete(name).catch(() => undefined);
  }
}

function noCopies(error: unknown, replicas: number): NatsFinding {
  const code = jetStreamCode(error);
  const check = 'NATS copies';
  if (code === jetStreamError.noSuitablePeers || code === jetStreamError.replicasWithoutCluster) {
    const detail = `${replicas} copies are wanted, and fewer servers of this NATS can hold one`;
    const fix =
      'Start more servers with JetStream in the cluster, restart one that is not among its members, or use --nats-replicas 1 (one disk then holds everything).';
    return { check, level: 'error', detail, fix };
  }
  const { message, hint } = natsFarmError(error, 'making a stream');
  return { check, level: 'error', detail: message, fix: hint ?? 'See the log of the NATS server.' };
}

/** Wall clock of this machine before something and after it, in milliseconds. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** Milliseconds of each write, ascending, and when the last one was made. */
async function timeWrites(connection: NatsConnection, subject: string, clock: Clock) {
  const js = connection.jetstream({ timeout: REQUEST_MILLIS });
  const body = Buffer.alloc(WRITE_BYTES, 'x');
  const times: number[] = [];
  let last: Span = { from: 0, to: 0 };
  // The first one pays for what is set up on the way.
  await js.publish(subject, body);
  for (let n = 0; n < WRITES; n++) {
    const [from, started] = [clock.now(), clock.monotonic()];
    await js.publish(subject, body);
    times.push(clock.monotonic() - started);
    last = { from, to: clock.now() };
  }
  return { times: times.sort((a, b) => a - b), last };
}

/** Milliseconds by which the server's clock is ahead at least: it was read during the last write, however long that took. */
async function clockSkew(jsm: JetStreamManager, name: string, { from, to }: Span): Promise<number> {
  const { time } = await jsm.streams.getMessage(name, { seq: WRITES + 1 });
  const stored = time.getTime();
  return stored - Math.min(Math.max(stored, from), to);
}

/** What following the journal needs: a consumer, and messages from it. */
async function readBack(connection: NatsConnection, jsm: JetStreamManager, name: string): Promise<void> {
  const info = await jsm.consumers.add(name, {
    name: 'check',
    ack_policy: AckPolicy.None,
    mem_storage: true,
    num_replicas: 1,
  });
  const consumer = connection.jetstream({ timeout: REQUEST_MILLIS }).consumers.getPullConsumerFor(info);
  const messages = await consumer.fetch({ max_messages: WRITES + 1, expires: REQUEST_MILLIS });
  let count = 0;
  for await (const _ of messages) if (++count === WRITES + 1) break;
  if (count <= WRITES) throw new Error(`${count} of ${WRITES + 1} messages came back`);
}

function writeFinding(times: readonly number[]): NatsFinding {
  const at = (share: number) => times[Math.floor(share * (times.length - 1))] ?? 0;
  const [median, worst] = [at(0.5), at(1)];
  const detail = `one takes ${median.toFixed(1)} ms, the slowest of ${times.length} took ${worst.toFixed(1)} ms`;
  const check = 'NATS writes';
  if (median <= SLOW_WRITE_MILLIS) return { check, level: 'ok', detail };
  const fix = 'Give the NATS servers disks that sync fast (no network or spinning disks), near each other.';
  return { check, level: 'warning', detail, fix };
}

function clockFinding(skew: number): NatsFinding {
  const check = 'clocks';
  const detail = `those of NATS and of this machine differ by ${(Math.abs(skew) / 1000).toFixed(1)} s`;
  if (Math.abs(skew) <= CLOCK_MILLIS) return { check, level: 'ok', detail };
  return { check, level: 'warning', detail, fix: 'Synchronise the clocks (NTP) of coordinators and NATS servers.' };
}
