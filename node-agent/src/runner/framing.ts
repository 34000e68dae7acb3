import { FarmError } from '@clipfarm/shared/errors';
import type { z } from 'zod';
import { type FromRunner, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, type ToRunner } from './protocol.ts';

/** Bytes before a header: its length and the payload's, both u32be. */
const PREFIX_BYTES = 8;

const EMPTY = new Uint8Array(0);
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** A decoded frame of the protocol. `payload` belongs to the receiver and is empty unless the message is `frames`. */
export interface Frame<Message> {
  readonly message: Message;
  readonly payload: Uint8Array;
}

/**
 * A message as it goes over the wire: prefix and header in one buffer, and the payload, not copied, as a second one
 * when there is one. Throws FarmError `invalid_argument` where a size limit is exceeded, and when a payload comes with
 * anything but `frames` or doesn't divide into `count` RGB frames.
 */
export function encodeFrame(message: ToRunner | FromRunner, payload: Uint8Array = EMPTY): readonly Uint8Array[] {
  const header = Buffer.from(JSON.stringify(message));
  checkLengths(header.length, payload.length);
  checkPayload(message, payload.length);
  const head = Buffer.allocUnsafe(PREFIX_BYTES + header.length);
  head.writeUInt32BE(header.length, 0);
  head.writeUInt32BE(payload.length, 4);
  header.copy(head, PREFIX_BYTES);
  return payload.length === 0 ? [head] : [head, payload];
}

/**
 * Streaming parser of one direction of the protocol. It holds at most one frame: memory is bounded by
 * {@link MAX_HEADER_BYTES} and {@link MAX_PAYLOAD_BYTES}, and is reserved only once the prefix was found valid.
 */
export class FrameDecoder<Message extends { readonly type: string }> {
  readonly #schema: z.ZodType<Message>;
  #part: 'prefix' | 'header' | 'payload' = 'prefix';
  #buffer: Buffer = Buffer.allocUnsafe(PREFIX_BYTES);
  #filled = 0;
  #payloadBytes = 0;
  #message: Message | undefined;
  #failure: FarmError | undefined;

  /** A decoder for the messages that `schema` accepts: `toRunner` or `fromRunner`. */
  constructor(schema: z.ZodType<Message>) {
    this.#schema = schema;
  }

  /**
   * The frames that `bytes` complete, in order; the rest is kept for the next call. Lazy: `bytes` must stay unchanged
   * until the iteration ends. Throws FarmError `invalid_argument` for malformed input, now and on every later call,
   * because the place of the next frame is unknown from then on.
   */
  *push(bytes: Uint8Array): Generator<Frame<Message>> {
    if (this.#failure !== undefined) throw this.#failure;
    let offset = 0;
    while (offset < bytes.length) {
      const count = Math.min(bytes.length - offset, this.#buffer.length - this.#filled);
      this.#buffer.set(bytes.subarray(offset, offset + count), this.#filled);
      this.#filled += count;
      offset += count;
      if (this.#filled < this.#buffer.length) return;
      const frame = this.#partDone();
      if (frame !== undefined) yield frame;
    }
  }

  #partDone(): Frame<Message> | undefined {
    try {
      return this.#advance();
    } catch (error) {
      this.#failure = FarmError.from(error);
      throw this.#failure;
    }
  }

  #advance(): Frame<Message> | undefined {
    if (this.#part === 'prefix') {
      const headerBytes = this.#buffer.readUInt32BE(0);
      this.#payloadBytes = this.#buffer.readUInt32BE(4);
      checkLengths(headerBytes, this.#payloadBytes);
      this.#expect('header', headerBytes);
      return undefined;
    }
    if (this.#part === 'header') {
      this.#message = parseHeader(this.#schema, this.#buffer);
      checkPayload(this.#message, this.#payloadBytes);
      if (this.#payloadBytes > 0) {
        this.#expect('payload', this.#payloadBytes);
        return undefined;
      }
    }
    const message = this.#message;
    if (message === undefined) throw new FarmError('internal', 'a payload without a header');
    const payload = this.#part === 'payload' ? this.#buffer : EMPTY;
    this.#expect('prefix', PREFIX_BYTES);
    return { message, payload };
  }

  #expect(part: 'prefix' | 'header' | 'payload', bytes: number): void {
    this.#part = part;
    this.#buffer = Buffer.allocUnsafe(bytes);
    this.#filled = 0;
  }
}

function parseHeader<Message>(schema: z.ZodType<Message>, header: Uint8Array): Message {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(header));
  } catch (cause) {
    throw new FarmError('invalid_argument', `header is not JSON in UTF-8: ${excerpt(header)}`, {
      field: 'header',
      cause,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = ['header', ...(issue?.path ?? []).map(String)].join('.');
  throw new FarmError('invalid_argument', `${field}: ${issue?.message ?? 'invalid'} in ${excerpt(header)}`, { field });
}

function checkLengths(headerBytes: number, payloadBytes: number): void {
  if (headerBytes < 2 || headerBytes > MAX_HEADER_BYTES) {
    const accepted = `2 to ${MAX_HEADER_BYTES} bytes are accepted`;
    throw new FarmError('invalid_argument', `header of ${headerBytes} bytes; ${accepted}`, { field: 'headerBytes' });
  }
  if (payloadBytes > MAX_PAYLOAD_BYTES) {
    const accepted = `at most ${MAX_PAYLOAD_BYTES} are accepted`;
    throw new FarmError('invalid_argument', `payload of ${payloadBytes} bytes; ${accepted}`, { field: 'payloadBytes' });
  }
}

function checkPayload(message: { readonly type: string; readonly count?: unknown }, payloadBytes: number): void {
  const count = message.type === 'frames' ? Number(message.count) : 0;
  const fits = count === 0 ? payloadBytes === 0 : payloadBytes > 0 && payloadBytes % (3 * count) === 0;
  if (fits) return;
  const accepted = count === 0 ? 'none is accepted' : `a positive multiple of ${3 * count} is accepted`;
  throw new FarmError('invalid_argument', `payload of ${payloadBytes} bytes with "${message.type}"; ${accepted}`, {
    field: 'payloadBytes',
  });
}

function excerpt(header: Uint8Array): string {
  const text = JSON.stringify(Buffer.from(header.buffer, header.byteOffset, header.length).toString('latin1'));
  return text.length <= 200 ? text : `${text.slice(0, 200)}…`;
}
