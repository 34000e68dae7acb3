import { FarmError } from '@clipfarm/shared/errors';
import {
  type AppendMeta,
  checkWhole,
  encodeBody,
  MAX_EVENT_BYTES,
  type NewEvent,
  type StoredEvent,
} from './journal.ts';

/** Version of the message's form. */
const VERSION = 1;

/** Header with the stream's last position after the message, so that a list of streams needs no bodies. */
export const POSITION_HEADER = 'Clipfarm-Position';

/** The appends of one message, in order. */
interface MessageBody {
  readonly v: number;
  /** Position of the first event. */
  readonly first: number;
  readonly appends: readonly (AppendMeta & { readonly events: readonly NewEvent[] })[];
}

/**
 * JSON text of one append.
 *
 * @throws FarmError `invalid_argument` when a number or body can't be stored.
 */
export function appendText(stream: string, events: readonly NewEvent[], { at, term }: AppendMeta): string {
  checkWhole(at, 'at', 0);
  checkWhole(term, 'term', 0);
  const texts = events.map(({ type, data }) => {
    const body = encodeBody(data, `event ${type} of stream ${stream}`, MAX_EVENT_BYTES);
    return `{"type":${JSON.stringify(type)},"data":${body}}`;
  });
  return `{"at":${at},"term":${term},"events":[${texts.join(',')}]}`;
}

/** Body of the message that carries appends, the first event of which has the position `first`. */
export function messageText(first: number, appends: readonly string[]): string {
  return `{"v":${VERSION},"first":${first},"appends":[${appends.join(',')}]}`;
}

/**
 * The events of a message, append by append.
 *
 * @param sequence of the message in JetStream, for the error.
 * @throws FarmError `internal` when the message is damaged, `failed_precondition` when a newer version wrote it.
 */
export function storedAppends(stream: string, sequence: number, data: Uint8Array): StoredEvent[][] {
  const { first, appends } = parse(stream, sequence, data);
  let position = first;
  return appends.map(({ at, term, events }) =>
    events.map(({ type, data: body }) => ({ stream, position: position++, at, term, type, data: body })),
  );
}

function parse(stream: string, sequence: number, data: Uint8Array): MessageBody {
  let body: Partial<MessageBody> | null;
  try {
    body = JSON.parse(new TextDecoder().decode(data)) as Partial<MessageBody> | null;
  } catch (error) {
    throw damagedMessage(stream, sequence, error);
  }
  if (typeof body?.v === 'number' && body.v > VERSION) {
    const message = `message ${sequence} of stream ${stream} has form ${body.v}; this version of Clipfarm knows ${VERSION}`;
    throw new FarmError('failed_precondition', message, { hint: 'Run the newer version that wrote it.' });
  }
  if (body?.v !== VERSION || !Number.isSafeInteger(body.first) || !Array.isArray(body.appends)) {
    throw damagedMessage(stream, sequence);
  }
  return body as MessageBody;
}

/** The error for a message that the journal did not write. `where` is its stream or subject. */
export function damagedMessage(where: string, sequence: number, cause?: unknown): FarmError {
  return new FarmError('internal', `journal is damaged: message ${sequence} of ${where} is no journal message`, {
    hint: 'Something else writes to this subject, or the NATS store is damaged: restore a backup of the stream.',
    cause,
  });
}
