import { type FeedSource, feed } from './jetstream-feed.ts';
import { type Head, positionOf, readHead } from './jetstream-heads.ts';
import { storedAppends } from './jetstream-message.ts';
import type { JetStreamNames } from './jetstream-names.ts';
import { missingEvents, type StoredEvent, type StreamPosition } from './journal.ts';
import { type AskParts, ask } from './nats-ask.ts';

/** What reading needs. */
export interface ReaderParts extends FeedSource, AskParts {
  readonly names: JetStreamNames;
  /** Reading gives up when nothing comes for so long. */
  readonly patienceMillis: number;
}

/**
 * Events of a stream from a position on, up to the end that it has when reading begins.
 *
 * @param known sequence up to which the stream is known to reach.
 * @param passed called when the events up to an end of a message are read.
 * @param after events after its position are in messages after its sequence; says where to begin.
 * @throws FarmError `internal` when events are missing, `unavailable` when NATS does not answer.
 */
export async function* readEvents(
  parts: ReaderParts,
  stream: string,
  fromPosition: number,
  known: number,
  after: Head,
  passed: (head: Head) => void,
): AsyncGenerator<StoredEvent> {
  const { clock, names, patienceMillis } = parts;
  const subject = names.subjectOf(stream);
  const head = await readHead(parts, parts.stream, subject, clock.monotonic() + patienceMillis);
  if (head.position < fromPosition && head.sequence >= known) return;
  const end = Math.max(head.sequence, known);
  let next = fromPosition;
  for await (const message of feed(parts, { subject, from: after.sequence + 1, patienceMillis })) {
    for (const event of storedAppends(stream, message.seq, message.data).flat()) {
      if (event.position < next) continue;
      if (event.position > next) throw missingEvents(stream, next, event.position - 1);
      yield event;
      next++;
    }
    passed({ position: next - 1, sequence: message.seq });
    if (message.seq >= end) return;
  }
}

/**
 * All streams of the journal and their ends.
 *
 * @param known sequence up to which JetStream is known to reach. A replica that has not got there yet is waited for.
 * @throws FarmError `unavailable` when NATS does not answer.
 */
export async function listStreams(parts: ReaderParts, known: number): Promise<readonly StreamPosition[]> {
  const { jsm, clock, names, patienceMillis } = parts;
  const doing = `listing JetStream stream ${parts.stream}`;
  const look = async () => {
    const deadline = clock.monotonic() + patienceMillis;
    return (await ask(parts, doing, deadline, () => jsm.streams.info(parts.stream))).state;
  };
  const state = await look();
  const found = new Map<string, StreamPosition>();
  if (state.messages === 0 && known <= state.last_seq) return [];
  let end = Math.max(state.last_seq, known);
  for await (const message of feed(parts, { from: 'last-per-subject', headersOnly: true, patienceMillis })) {
    // A consumer leaves out what was replaced before it was made, and what has replaced that may be behind the end as it was.
    if (message.info.deliverySequence === 1) end = Math.max((await look()).last_seq, known);
    const stream = names.streamOf(message.subject);
    if (stream !== null) {
      found.set(stream, { stream, position: positionOf(message.headers, message.subject, message.seq) });
    }
    if (message.seq >= end) break;
  }
  return [...found.values()].sort((a, b) => (a.stream < b.stream ? -1 : 1));
}
