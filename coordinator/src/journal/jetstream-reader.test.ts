import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { headers } from 'nats';
import { POSITION_HEADER } from './jetstream-message.ts';
import { jetStreamNames } from './jetstream-names.ts';
import { listStreams, type ReaderParts } from './jetstream-reader.ts';

const names = jetStreamNames('clipfarm');

/** A JetStream stream with a journal's messages, to which others may write at any moment. */
class FakeStream {
  readonly messages: { readonly seq: number; readonly subject: string; readonly position: number }[] = [];
  /** Called before a consumer is made. */
  onConsumer: () => void = () => {};

  write(stream: string): void {
    const subject = names.subjectOf(stream);
    const position = 1 + this.messages.filter((message) => message.subject === subject).length;
    this.messages.push({ seq: this.messages.length + 1, subject, position });
  }

  list(known = 0) {
    const jsm = {
      streams: {
        info: async () => ({ state: { messages: this.messages.length, last_seq: this.messages.length } }),
      },
      consumers: {
        add: async () => {
          this.onConsumer();
          return this.messages.filter(
            ({ subject }, i) => !this.messages.slice(i + 1).some((m) => m.subject === subject),
          );
        },
      },
    };
    type Last = FakeStream['messages'];
    const getPullConsumerFor = (last: Last) => ({ fetch: async () => batch(last), delete: async () => true });
    const link = { broken: () => new AbortController().signal, connected: async () => true };
    const js = { consumers: { getPullConsumerFor } };
    const parts = { js, jsm, link, names, clock: systemClock, stream: 'S', patienceMillis: 60_000 };
    return listStreams(parts as unknown as ReaderParts, known);
  }
}

/** What a consumer delivers: it ends when everything was. */
function batch(messages: FakeStream['messages']) {
  async function* deliver() {
    for (const [index, { seq, subject, position }] of messages.entries()) {
      const head = headers();
      head.set(POSITION_HEADER, String(position));
      yield { seq, subject, headers: head, info: { deliverySequence: index + 1 } };
    }
  }
  return Object.assign(deliver(), { close: () => undefined });
}

test('every stream is listed with its end, in the order of their names', async () => {
  const journal = new FakeStream();
  assert.deepEqual(await journal.list(), []);
  for (const stream of ['jobs/b', 'farm', 'jobs/a', 'farm']) journal.write(stream);
  assert.deepEqual(await journal.list(), [
    { stream: 'farm', position: 2 },
    { stream: 'jobs/a', position: 1 },
    { stream: 'jobs/b', position: 1 },
  ]);
});

test('a stream that is written to while they are listed is not left out', async () => {
  const journal = new FakeStream();
  for (const stream of ['farm', 'jobs/a']) journal.write(stream);
  journal.onConsumer = () => journal.write('farm');
  assert.deepEqual(await journal.list(), [
    { stream: 'farm', position: 2 },
    { stream: 'jobs/a', position: 1 },
  ]);
});
