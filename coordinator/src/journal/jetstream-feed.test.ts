import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { type FeedSource, feed } from './jetstream-feed.ts';

/** A stream of ten messages; its n-th consumer begins that many messages before where it is told to, and breaks off. */
function laggingSource(lags: readonly number[], breakAfter: number): FeedSource {
  let made = 0;
  const consumers = {
    add: async (_stream: string, config: { readonly opt_start_seq: number }) => ({ start: config.opt_start_seq }),
  };
  const getPullConsumerFor = ({ start }: { readonly start: number }) => {
    const first = start - (lags[made] ?? 0);
    made += 1;
    async function* messages() {
      for (let n = 0; n < breakAfter && first + n <= 10; n++) {
        yield { seq: first + n, info: { deliverySequence: n + 1 } };
      }
      // The next one is missing.
      yield { seq: 99, info: { deliverySequence: breakAfter + 2 } };
    }
    return { fetch: async () => Object.assign(messages(), { close: () => undefined }), delete: async () => true };
  };
  const jsm = { consumers };
  const js = { consumers: { getPullConsumerFor } };
  const link = { broken: () => new AbortController().signal };
  return { js, jsm, link, clock: systemClock, stream: 'S' } as unknown as FeedSource;
}

test('no message comes twice when a consumer begins before where it was told to', async () => {
  const seen: number[] = [];
  for await (const { seq } of feed(laggingSource([0, 3, 2], 5), { from: 1 })) {
    seen.push(seq);
    if (seq === 10) break;
  }
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

/** A stream of ten messages; its first consumer delivers so many and then keeps a request open until it is closed. */
function silentSource(delivers: number): { readonly source: FeedSource; breakOff(): void } {
  let connection = new AbortController();
  let made = 0;
  const consumers = {
    add: async (_stream: string, config: { readonly opt_start_seq: number }) => ({ start: config.opt_start_seq }),
  };
  const getPullConsumerFor = ({ start }: { readonly start: number }) => {
    const last = made++ === 0 ? delivers : 10;
    let next = start;
    const fetch = async () => {
      const closed = Promise.withResolvers<void>();
      async function* messages() {
        for (; next <= last; next++) yield { seq: next, info: { deliverySequence: next - start + 1 } };
        await closed.promise;
      }
      return Object.assign(messages(), { close: closed.resolve });
    };
    return { fetch, delete: async () => true };
  };
  const link = { broken: () => connection.signal };
  const js = { consumers: { getPullConsumerFor } };
  return {
    source: { js, jsm: { consumers }, link, clock: systemClock, stream: 'S' } as unknown as FeedSource,
    breakOff: () => {
      connection.abort();
      connection = new AbortController();
    },
  };
}

test('when the connection breaks, what was sent into it is read anew, and no open request is waited for', async () => {
  const { source, breakOff } = silentSource(4);
  const seen: number[] = [];
  for await (const { seq } of feed(source, { from: 1 })) {
    seen.push(seq);
    if (seq === 4) setImmediate(breakOff);
    if (seq === 10) break;
  }
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
