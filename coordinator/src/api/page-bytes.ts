/** Most bytes of the entries of a page: clients take messages of 8 MiB, and an entry can be large by itself. */
export const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** What encodes a message of the protocol. */
interface Encoder<T> {
  encode(message: T): { finish(): Uint8Array };
}

/** The first entries that have at most {@link MAX_PAGE_BYTES} together when they are encoded; one at least, if there is any. */
export function withinPage<T>(entries: readonly T[], encoder: Encoder<T>, maxBytes = MAX_PAGE_BYTES): readonly T[] {
  let bytes = 0;
  const end = entries.findIndex((entry, index) => {
    bytes += encoder.encode(entry).finish().length;
    return bytes > maxBytes && index > 0;
  });
  return end === -1 ? entries : entries.slice(0, end);
}
