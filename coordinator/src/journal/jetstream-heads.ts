import type { MsgHdrs } from 'nats';
import { damagedMessage, POSITION_HEADER } from './jetstream-message.ts';
import { type AskParts, ask } from './nats-ask.ts';
import { jetStreamCode, jetStreamError } from './nats-error.ts';

/** End of a stream of the journal. */
export interface Head {
  /** Position of its last event; 0 when it has none. */
  readonly position: number;
  /** Sequence of its last message; 0 when it has none. */
  readonly sequence: number;
}

/**
 * The last position of a stream of the journal after the message with these headers.
 *
 * @param sequence of the message, for the error.
 * @throws FarmError `internal` when it is no message of the journal.
 */
export function positionOf(head: MsgHdrs | undefined, subject: string, sequence: number): number {
  const position = Number(head?.get(POSITION_HEADER));
  if (Number.isSafeInteger(position) && position > 0) return position;
  throw damagedMessage(subject, sequence);
}

/**
 * The end of a stream as JetStream has it now.
 *
 * @param stream JetStream stream.
 * @throws FarmError `unavailable` when NATS has not answered by the deadline.
 */
export function readHead(parts: AskParts, stream: string, subject: string, deadline: number): Promise<Head> {
  return ask(parts, `reading ${subject}`, deadline, async () => {
    try {
      const { header, seq } = await parts.jsm.streams.getMessage(stream, { last_by_subj: subject });
      return { position: positionOf(header, subject, seq), sequence: seq };
    } catch (error) {
      if (jetStreamCode(error) === jetStreamError.messageNotFound) return { position: 0, sequence: 0 };
      throw error;
    }
  });
}
