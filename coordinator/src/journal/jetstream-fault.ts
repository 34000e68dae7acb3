import { NatsError, type StreamAPI } from 'nats';
import { isTemporary } from './nats-error.ts';

/** What asking for a fault needs. */
export interface FaultParts {
  readonly jsm: { readonly streams: Pick<StreamAPI, 'purge'> };
}

/** No message of any farm is on it, and no reader's filter names it. */
const NOTHING = 'nothing.is.on.this';

/**
 * What keeps a stream from taking writes. From 2.14 on nats-server leaves them without an answer, for good, once its disk has
 * failed one, and still tells all about the stream; only an operation that would change it fails. So it is asked to remove the
 * messages of a subject that has none.
 *
 * @param stream JetStream stream.
 * @returns the error that the server answers with; null when it takes writes, does not answer either, or this user may not ask.
 */
export async function writeFault({ jsm }: FaultParts, stream: string): Promise<unknown> {
  try {
    await jsm.streams.purge(stream, { filter: NOTHING });
    return null;
  } catch (error) {
    // Who may not ask, learns nothing of the stream.
    const mayNot = error instanceof NatsError && error.isPermissionError();
    return mayNot || isTemporary(error) ? null : error;
  }
}
