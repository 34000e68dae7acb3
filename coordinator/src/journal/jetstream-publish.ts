import { randomUUID } from 'node:crypto';
import type { Clock } from '@clipfarm/shared/clock';
import { ErrorCode, headers, type JetStreamClient, NatsError, type StreamAPI } from 'nats';
import { writeFault } from './jetstream-fault.ts';
import { isTemporary, jetStreamCode, jetStreamError, natsFarmError, notAnswered } from './nats-error.ts';
import type { NatsLink } from './nats-link.ts';
import { pause } from './pause.ts';

/** What publishing needs. */
export interface PublishParts {
  readonly js: Pick<JetStreamClient, 'publish'>;
  readonly jsm: { readonly streams: Pick<StreamAPI, 'getMessage' | 'purge'> };
  readonly link: Pick<NatsLink, 'connected'>;
  readonly clock: Clock;
  /** JetStream stream. */
  readonly stream: string;
}

/** One message. */
export interface Publication {
  readonly subject: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sequence of the last message on the subject, 0 for none: it is stored only if that is so. @default stored in any case */
  readonly expectedSequence?: number;
  /** When to give up, by the monotonic clock. */
  readonly deadline: number;
}

/** One attempt gets this long. */
const ATTEMPT_MILLIS = 2000;

/** The client refuses to wait for an answer for less. */
const LEAST_MILLIS = 1;

/** Pause between attempts while a cluster has no leader. */
const AGAIN_MILLIS = 100;

const MESSAGE_ID = 'Nats-Msg-Id';

/**
 * Publishes a message so that it is stored once, however often it has to be sent: JetStream drops repeats of its identity, and
 * where an answer was lost the stream itself is read. When this resolves, most of the servers have stored it.
 *
 * @returns the message's sequence, or `conflict` when another message was first.
 * @throws FarmError `unavailable` after the deadline, when it is not known whether it was stored or still will be;
 * `resource_exhausted`, `permission_denied`, `internal` when NATS refuses it, or can't take it; where an attempt before had no
 * answer, that one may still be stored.
 */
export async function publishOnce(parts: PublishParts, publication: Publication): Promise<number | 'conflict'> {
  const { js, link, clock, stream } = parts;
  const { subject, body, expectedSequence, deadline } = publication;
  const id = randomUUID();
  let unanswered: unknown;
  /** Why attempts have no answer, once the stream tells. */
  let fault: unknown = null;
  while (true) {
    if (fault !== null) throw natsFarmError(fault, `writing to ${subject}`);
    const left = deadline - clock.monotonic();
    // What is published without a connection would wait in the client and be sent long after the caller gave up.
    if (left < LEAST_MILLIS || !(await link.connected(left))) throw notAnswered(`writing to ${subject}`, unanswered);
    const head = headers();
    for (const [name, value] of Object.entries(publication.headers ?? {})) head.set(name, value);
    try {
      const ack = await js.publish(subject, body, {
        msgID: id,
        headers: head,
        timeout: Math.min(ATTEMPT_MILLIS, left),
        expect: {
          streamName: stream,
          ...(expectedSequence === undefined ? {} : { lastSubjectSequence: expectedSequence }),
        },
      });
      // A leader that has proposed the message and waits for the others answers a repeat from 2.10 on with sequence 0, from
      // 2.11 on with an error. Neither means that it is stored: if the leader is lost, so is the message.
      if (ack.seq > 0) return ack.seq;
      unanswered = inProcess();
    } catch (error) {
      if (jetStreamCode(error) === jetStreamError.wrongLastSequence && expectedSequence !== undefined) {
        if (unanswered === undefined) return 'conflict';
        const stored = await sequenceOf(parts, subject, expectedSequence, id);
        if (stored !== 'unknown') return stored;
      } else if (!isTemporary(error)) {
        throw natsFarmError(error, `writing to ${subject}`);
      } else if (error instanceof NatsError && error.code === ErrorCode.Timeout) {
        // Not waited for: where nobody leads, nobody answers this either.
        void writeFault(parts, stream).then((found) => {
          fault = found;
        });
      }
      unanswered = error;
    }
    await pause(clock, Math.min(AGAIN_MILLIS, left));
  }
}

function inProcess(): NatsError {
  const description = 'most of the servers have not stored the message yet';
  const error = new NatsError(description, ErrorCode.JetStreamInvalidAck);
  error.api_error = { code: 409, err_code: jetStreamError.messageInProcess, description };
  return error;
}

/** Whether the message that follows `after` on the subject is the one with this identity. */
async function sequenceOf(parts: PublishParts, subject: string, after: number, id: string) {
  try {
    // The server knows `next_by_subj`; the client's type does not.
    const query = { next_by_subj: subject, seq: after + 1 };
    const next = await parts.jsm.streams.getMessage(parts.stream, query);
    return next.header.get(MESSAGE_ID) === id ? next.seq : 'conflict';
  } catch (error) {
    if (isTemporary(error) || jetStreamCode(error) === jetStreamError.messageNotFound) return 'unknown';
    throw natsFarmError(error, `reading ${subject}`);
  }
}
