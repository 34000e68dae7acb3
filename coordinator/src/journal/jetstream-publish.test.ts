import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, ManualClock, systemClock } from '@clipfarm/shared/clock';
import { ErrorCode, headers, type JetStreamPublishOptions, NatsError, type PubAck, type StoredMsg } from 'nats';
import { publishOnce } from './jetstream-publish.ts';

/** What becomes of an attempt: it is stored or not, its answer arrives or not. */
type Fate =
  | 'stored'
  | 'stored, answer lost'
  | 'lost'
  | 'no leader'
  | 'no room'
  | 'in process'
  | 'in process, as an error'
  | 'another in process'
  | 'disk failed';

/** How long a publication is tried. */
const PATIENCE_MILLIS = 60_000;

/** The system's time, in which no attempt waits for the one before. */
const hurried: Clock = { ...systemClock, setTimeout: (fn) => systemClock.setTimeout(fn, 0) };

/** One subject of a stream, as JetStream keeps it, with every attempt's fate laid down. */
class FakeSubject {
  readonly messages: { readonly seq: number; readonly id: string }[] = [];
  readonly ids: string[] = [];
  readonly #fates: Fate[];
  #fault: NatsError | null = null;
  /** Whether repeats are recognised; a cluster may check the expected sequence first. */
  readonly #recognisesRepeats: boolean;

  constructor(fates: readonly Fate[], recognisesRepeats = true) {
    this.#fates = [...fates];
    this.#recognisesRepeats = recognisesRepeats;
  }

  readonly js = {
    publish: async (_subject: string, _body: unknown, options: Partial<JetStreamPublishOptions> = {}) => {
      // As the client does before it sends anything.
      if ((options.timeout ?? 1000) < 1) throw new NatsError('timeout', ErrorCode.InvalidOption);
      return this.store(options);
    },
  };

  readonly jsm = {
    streams: {
      getMessage: async (_stream: string, query: { readonly seq: number } | { readonly last_by_subj: string }) => {
        const found = this.messages.find(({ seq }) => 'seq' in query && seq >= query.seq);
        if (!found) throw apiError(404, 10037, 'no message found');
        const header = headers();
        header.set('Nats-Msg-Id', found.id);
        return { seq: found.seq, header } as StoredMsg;
      },
      purge: async () => {
        if (this.#fault !== null) throw this.#fault;
        return { success: true, purged: 0 };
      },
    },
  };

  store({ msgID = '', expect }: Partial<JetStreamPublishOptions>): PubAck {
    this.ids.push(msgID);
    const fate = this.#fates.shift() ?? 'stored';
    // From 2.14 on a server whose disk has failed a write answers none any more.
    if (fate === 'disk failed') this.#fault = apiError(500, 10051, 'write 1.blk: no space left on device');
    if (fate === 'lost' || fate === 'disk failed') throw NatsError.errorForCode(ErrorCode.Timeout);
    if (fate === 'no leader') throw NatsError.errorForCode(ErrorCode.NoResponders);
    if (fate === 'no room') throw apiError(503, 10077, 'maximum bytes exceeded');
    // What a leader answers to a repeat of a message that it has proposed: nats-server 2.10, and from 2.11 on.
    if (fate === 'in process') return { stream: 'S', seq: 0, duplicate: true };
    if (fate === 'in process, as an error') throw apiError(409, 10158, 'duplicate message id is in process');
    // What it answers, from 2.11 on, while another message to the subject is proposed and not stored yet.
    if (fate === 'another in process') throw apiError(400, 10164, 'wrong last sequence');
    const repeated = this.messages.find(({ id }) => id === msgID);
    if (repeated && this.#recognisesRepeats) return { stream: 'S', seq: repeated.seq, duplicate: true };
    const last = this.messages.at(-1)?.seq ?? 0;
    if (expect?.lastSubjectSequence !== undefined && expect.lastSubjectSequence !== last) {
      throw apiError(400, 10071, `wrong last sequence: ${last}`);
    }
    this.messages.push({ seq: last + 1, id: msgID });
    if (fate === 'stored, answer lost') throw NatsError.errorForCode(ErrorCode.Timeout);
    return { stream: 'S', seq: last + 1, duplicate: false };
  }

  publish(clock: Clock = hurried, connected = true, patienceMillis = PATIENCE_MILLIS) {
    const link = { connected: async () => connected };
    const deadline = clock.monotonic() + patienceMillis;
    const parts = { js: this.js, jsm: this.jsm, link, clock, stream: 'S' };
    return publishOnce(parts, { subject: 's', body: '{}', expectedSequence: 0, deadline });
  }
}

function apiError(code: number, errorCode: number, description: string): NatsError {
  const error = new NatsError(description, String(code));
  error.api_error = { code, err_code: errorCode, description };
  return error;
}

for (const recognises of [true, false]) {
  const how = recognises
    ? 'where the server recognises repeats'
    : 'where the server checks the expected sequence first';
  test(`whatever answers are lost, the message is stored once and its sequence returned, ${how}`, async () => {
    for (const fates of [
      ['stored'],
      ['lost', 'stored'],
      ['stored, answer lost'],
      ['stored, answer lost', 'lost', 'no leader'],
      ['no leader', 'lost', 'stored, answer lost', 'no leader'],
    ] as const) {
      const subject = new FakeSubject(fates, recognises);
      assert.equal(await subject.publish(), 1, fates.join(', '));
      assert.equal(subject.messages.length, 1);
      assert.equal(new Set(subject.ids).size, 1, 'every attempt has the same identity');
    }
  });
}

test('a message that a leader has only proposed is not taken for stored, whether it is in the end or not', async () => {
  for (const saying of ['in process', 'in process, as an error'] as const) {
    for (const before of ['lost', 'stored, answer lost'] as const) {
      const subject = new FakeSubject([before, saying, saying]);
      assert.equal(await subject.publish(), 1);
      assert.equal(subject.messages.length, 1);
    }
    const overtaken = new FakeSubject(['lost', saying]);
    overtaken.messages.push({ seq: 1, id: 'of another writer' });
    assert.equal(await overtaken.publish(), 'conflict');
  }
});

test('another writer’s message is a conflict, also after an answer was lost', async () => {
  for (const fates of [[], ['lost'], ['no leader', 'lost']] as const) {
    const subject = new FakeSubject(fates);
    subject.messages.push({ seq: 1, id: 'of another writer' });
    assert.equal(await subject.publish(), 'conflict');
    assert.deepEqual(subject.messages, [{ seq: 1, id: 'of another writer' }]);
  }
});

test('while a message of another writer is on its way nothing is decided: ours is stored if that one is lost', async () => {
  for (const before of [[], ['lost'], ['stored, answer lost']] as const) {
    const subject = new FakeSubject([...before, 'another in process', 'another in process']);
    assert.equal(await subject.publish(), 1);
    assert.equal(subject.messages.length, 1);
  }
  const overtaken = new FakeSubject(['another in process']);
  overtaken.messages.push({ seq: 1, id: 'of another writer' });
  assert.equal(await overtaken.publish(), 'conflict');
});

test('what another writer appended after ours does not hide ours', async () => {
  const subject = new FakeSubject(['stored, answer lost'], false);
  const publishing = subject.publish(systemClock);
  while (subject.messages.length === 0) await new Promise(setImmediate);
  subject.messages.push({ seq: 2, id: 'of another writer' });
  assert.equal(await publishing, 1);
});

/** Publishes where no answer ever comes, until it is given up. */
async function publishInVain(clock: ManualClock, patienceMillis: number): Promise<void> {
  const silent = new FakeSubject(Array.from({ length: 1000 }, () => 'lost' as const));
  let over = false;
  const publishing = silent.publish(clock, true, patienceMillis).finally(() => {
    over = true;
  });
  const refused = assert.rejects(publishing, { code: 'unavailable', message: /writing to s: NATS: no answer in time/ });
  while (!over) {
    if (clock.pending > 0) clock.advance(100);
    await new Promise(setImmediate);
  }
  await refused;
}

test('after the deadline it is unavailable, and without a connection nothing is sent at all', async () => {
  const clock = new ManualClock();
  await publishInVain(clock, PATIENCE_MILLIS);
  assert.equal(clock.monotonic(), PATIENCE_MILLIS);
  const cut = new FakeSubject([]);
  await assert.rejects(cut.publish(clock, false), { code: 'unavailable', message: /there is no connection/ });
  assert.deepEqual(cut.ids, []);
});

test('what is left of the time may be a fraction of a millisecond, in which the client would send nothing', async () => {
  await publishInVain(new ManualClock(), PATIENCE_MILLIS + 0.5);
});

test('a full store is said at once, not retried', async () => {
  const full = new FakeSubject(['no room']);
  await assert.rejects(full.publish(), { code: 'resource_exhausted', message: /no room: maximum bytes exceeded/ });
  assert.equal(full.ids.length, 1);
});

test('where the disk has failed and writes have no answer, it is said soon, and not that there was no answer', async () => {
  const failed = new FakeSubject(['disk failed', 'lost', 'lost']);
  const clock = new ManualClock();
  const publishing = failed.publish(clock);
  const refused = assert.rejects(publishing, {
    code: 'resource_exhausted',
    message: /no room: write 1\.blk: no space left/,
  });
  while (clock.pending === 0) await new Promise(setImmediate);
  clock.advance(100);
  await refused;
  assert.equal(failed.ids.length, 1);
});
