import { randomUUID } from 'node:crypto';
import type { Clock } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';
import {
  AckPolicy,
  type Consumer,
  type ConsumerMessages,
  DeliverPolicy,
  type JetStreamClient,
  type JetStreamManager,
  type JsMsg,
  nanos,
  ReplayPolicy,
} from 'nats';
import { isTemporary, jetStreamCode, jetStreamError, natsFarmError, notAnswered } from './nats-error.ts';
import type { NatsLink } from './nats-link.ts';
import { pause } from './pause.ts';

/** What a feed reads from. */
export interface FeedSource {
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly link: NatsLink;
  readonly clock: Clock;
  /** JetStream stream. */
  readonly stream: string;
}

/** What a feed delivers. */
export interface FeedRange {
  /** @default all subjects */
  readonly subject?: string;
  /** Sequence to begin with, or only the last message of each subject and then what comes new. */
  readonly from: number | 'last-per-subject';
  /** Leave the bodies out. @default false */
  readonly headersOnly?: boolean;
  /** Fails with `unavailable` when nothing came for this many milliseconds. @default waits for ever */
  readonly patienceMillis?: number;
  /** Ends the feed. */
  readonly signal?: AbortSignal;
}

/** Messages that are asked for at a time. */
export const BATCH = 100;

/** The server forgets a consumer that was not used for this long, whatever became of its owner. */
const FORGET_MILLIS = 60_000;

/** How long a request for messages stays open; the client accepts no less than one second. */
const REQUEST_MILLIS = { patient: 10_000, hurried: 1000 };

/** Pause after NATS refused to deliver. */
const REFUSED_MILLIS = 5000;

/** Pause before a consumer is made again. */
const AGAIN_MILLIS = 250;

/**
 * Messages in the order of their sequence, none left out and none twice (`last-per-subject` begins again after a fault), until
 * the caller stops. It rests on short-lived consumers that are made anew whenever a delivery is missing, the server has
 * lost them or the connection broke.
 *
 * @throws FarmError `unavailable` out of patience; others when NATS refuses.
 */
export async function* feed(source: FeedSource, range: FeedRange): AsyncGenerator<JsMsg> {
  const { clock, stream } = source;
  const { signal, patienceMillis = Number.POSITIVE_INFINITY } = range;
  let { from } = range;
  let progress = clock.monotonic();
  while (!isOver(range)) {
    let consumer: Consumer | undefined;
    let problem: unknown;
    // A request that was open when it broke would be waited for to its end, and with it whatever comes meanwhile.
    const broken = source.link.broken();
    try {
      consumer = await makeConsumer(source, { ...range, from });
      for await (const message of deliveries(consumer, source.clock, range, broken)) {
        // On a server whose copy lags behind, a consumer begins where that copy ends and not where it was told to.
        if (typeof from === 'number') {
          if (message.seq < from) continue;
          from = message.seq + 1;
        }
        yield message;
        progress = clock.monotonic();
      }
    } catch (error) {
      if (!isTemporary(error) && jetStreamCode(error) !== jetStreamError.consumerNotFound) {
        throw natsFarmError(error, `reading JetStream stream ${stream}`);
      }
      problem = error;
    } finally {
      consumer?.delete().catch(() => undefined);
    }
    if (clock.monotonic() - progress > patienceMillis)
      throw notAnswered(`reading JetStream stream ${stream}`, problem ?? `nothing for ${patienceMillis} ms`);
    await pause(clock, AGAIN_MILLIS, signal);
  }
}

/**
 * Hands every message from a sequence on to the handler until the signal, whatever NATS does meanwhile.
 *
 * @param subject only messages on this one.
 */
export async function follow(
  source: FeedSource,
  { subject, from, signal }: { readonly subject: string; readonly from: number; readonly signal: AbortSignal },
  log: Logger,
  handler: (message: JsMsg) => void,
): Promise<void> {
  let next = from;
  let said = '';
  while (!signal.aborted) {
    try {
      for await (const message of feed(source, { subject, from: next, signal })) {
        if (signal.aborted) return;
        next = message.seq + 1;
        said = '';
        handler(message);
      }
    } catch (error) {
      if (signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== said)
        log.warn({ err: error, stream: source.stream }, 'a JetStream stream can’t be followed; trying again');
      said = reason;
      await pause(source.clock, REFUSED_MILLIS, signal);
    }
  }
}

async function makeConsumer({ js, jsm, stream }: FeedSource, range: FeedRange): Promise<Consumer> {
  const { from } = range;
  const info = await jsm.consumers.add(stream, {
    name: `feed-${randomUUID()}`,
    ack_policy: AckPolicy.None,
    replay_policy: ReplayPolicy.Instant,
    inactive_threshold: nanos(FORGET_MILLIS),
    mem_storage: true,
    num_replicas: 1,
    filter_subject: range.subject ?? '>',
    headers_only: range.headersOnly ?? false,
    ...(from === 'last-per-subject'
      ? { deliver_policy: DeliverPolicy.LastPerSubject }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, from) }),
  });
  return js.consumers.getPullConsumerFor(info);
}

/** What one consumer delivers; ends when a delivery is missing, when the connection breaks, or on the signal. */
async function* deliveries(
  consumer: Consumer,
  clock: Clock,
  range: FeedRange,
  broken: AbortSignal,
): AsyncGenerator<JsMsg> {
  const expires = range.patienceMillis === undefined ? REQUEST_MILLIS.patient : REQUEST_MILLIS.hurried;
  let delivered = 0;
  for (let unanswered = 0; !isOver(range) && !broken.aborted; ) {
    const before = delivered;
    let batch: ConsumerMessages | undefined;
    const stop = () => void batch?.close();
    try {
      batch = await consumer.fetch({ max_messages: BATCH, expires });
      broken.addEventListener('abort', stop);
      range.signal?.addEventListener('abort', stop);
      for await (const message of batch) {
        if (message.info.deliverySequence !== delivered + 1) return;
        delivered++;
        yield message;
      }
    } catch (error) {
      // In a cluster it takes a moment until every server knows of a new consumer.
      if (!isTemporary(error) || ++unanswered > 10) throw error;
      await pause(clock, 10, range.signal);
      continue;
    } finally {
      broken.removeEventListener('abort', stop);
      range.signal?.removeEventListener('abort', stop);
    }
    if (delivered > before) continue;
    if (range.patienceMillis !== undefined || isOver(range)) return;
    // What was sent into a connection that broke shows only here when nothing follows it.
    if ((await consumer.info()).delivered.consumer_seq !== delivered) return;
  }
}

function isOver({ signal }: FeedRange): boolean {
  return signal?.aborted === true;
}
