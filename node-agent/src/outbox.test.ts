import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { ManualClock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { Outbox } from './outbox.ts';
import { Spool, type SpoolEntry } from './spool.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const never = new AbortController().signal;

function nameOf({ manifest }: SpoolEntry): string {
  return manifest.kind === 'anchor' ? 'anchor' : `${manifest.leaseId}/${manifest.clip}`;
}

/** An outbox over a real spool; uploads answer what `refusal` says. */
async function outbox(t: TestContext) {
  const clock = new ManualClock();
  const spool = await Spool.open({ dir: temporaryDirectory(t), maxBytes: 2 ** 30, log });
  const uploads: string[] = [];
  const offers: string[] = [];
  const verdicts: string[] = [];
  const world = { refusal: null as FarmError | null, linked: true };
  const box = new Outbox({
    ...{ spool, clock, log },
    upload: async (entry) => {
      uploads.push(nameOf(entry));
      if (world.refusal !== null) throw world.refusal;
    },
    offer: (entry) => {
      if (world.linked) offers.push(nameOf(entry));
      return world.linked;
    },
    onVerdict: (entry, verdict) => verdicts.push(`${nameOf(entry)} ${verdict}`),
    random: () => 0,
  });
  const put = async (leaseId: string, clip: number | null, farmId = ''): Promise<SpoolEntry> => {
    const scratch = spool.scratchPath('mp4');
    writeFileSync(scratch, `${leaseId} ${clip}`);
    const entry = await spool.add(
      scratch,
      clip === null
        ? { kind: 'anchor', farmId, jobId: 'j', leaseId }
        : {
            ...{ kind: 'chunk', farmId, jobId: 'j', leaseId, clip, frames: 48, renderSeconds: 1 },
            ...{ peakMemoryBytes: 0, reservedMemoryBytes: 0, hostBytes: 0 },
          },
    );
    box.add(entry);
    return entry;
  };
  return { box, clock, spool, uploads, offers, verdicts, world, put };
}

/** Waits for what takes real files but no clock. */
async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 30_000; !condition(); ) {
    assert.ok(Date.now() < deadline, `waited for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Lets everything happen that takes neither. */
async function settle(): Promise<void> {
  for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

test('nothing happens without a link; with one, each file is uploaded, offered and deleted once judged', async (t) => {
  const { box, spool, uploads, offers, verdicts, put } = await outbox(t);
  await put('l', 4);
  await settle();
  assert.deepEqual(uploads, []);
  box.connected();
  await put('l', 5);
  await settle();
  assert.deepEqual(offers.toSorted(), ['l/4', 'l/5']);
  await box.judged({ leaseId: 'l', clip: 5 }, 'committed', '');
  await box.judged({ leaseId: 'l', clip: 5 }, 'committed', '');
  await box.judged({ leaseId: 'l', clip: 4 }, 'not_wanted', '');
  assert.deepEqual(verdicts, ['l/5 committed', 'l/4 not_wanted']);
  assert.deepEqual(spool.entries, []);
  assert.deepEqual(uploads.toSorted(), ['l/4', 'l/5']);
});

test('after a reconnect everything is offered again, but only what is not uploaded is uploaded', async (t) => {
  const { box, uploads, offers, put } = await outbox(t);
  box.connected();
  await put('l', 0);
  await settle();
  box.disconnected();
  await put('l', 1);
  await settle();
  assert.deepEqual([uploads, offers], [['l/0'], ['l/0']]);
  box.connected();
  await settle();
  assert.deepEqual(
    [uploads, offers],
    [
      ['l/0', 'l/1'],
      ['l/0', 'l/0', 'l/1'],
    ],
  );
});

test('the anchor is offered before the clip that it was made from, however long its upload takes', async (t) => {
  const { box, clock, offers, world, put } = await outbox(t);
  world.refusal = new FarmError('unavailable', 'no');
  await put('l', null);
  box.connected();
  await until(() => clock.pending === 1);
  world.refusal = null;
  await put('l', 0);
  await settle();
  assert.deepEqual(offers, []);
  clock.advance(60_000);
  await settle();
  assert.deepEqual(offers, ['anchor', 'l/0']);
  await box.anchorJudged('j', 'committed', '');
  assert.equal(box.size, 1);
});

test('a failed upload is tried again, later each time', async (t) => {
  const { box, clock, uploads, world, put } = await outbox(t);
  world.refusal = new FarmError('resource_exhausted', 'disk full');
  box.connected();
  await put('l', 0);
  await settle();
  const times: number[] = [];
  while (times.length < 8) {
    // The timer of the next attempt is set once the failure is digested.
    await until(() => clock.pending === 1);
    const before = uploads.length;
    while (uploads.length === before) clock.advance(100);
    times.push(clock.monotonic());
  }
  const waits = times.map((time, i) => time - (times[i - 1] ?? 0));
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
});

test('what was made for another farm is not uploaded, waited for or forgotten; its own farm gets it', async (t) => {
  const { box, spool, uploads, put } = await outbox(t);
  await put('one', 0, 'farm-1');
  await put('two', 0, 'farm-2');
  const serve = (farmId: string) => {
    box.disconnected();
    spool.serve(farmId, () => {});
    box.connected();
  };
  serve('farm-2');
  await put('one', 1, 'farm-1');
  await settle();
  assert.deepEqual([uploads, box.size], [['two/0'], 1]);
  await box.whenSettled('one', never);
  await box.judged({ leaseId: 'one', clip: 0 }, 'not_wanted', '');
  await box.judged({ leaseId: 'two', clip: 0 }, 'committed', '');
  await box.whenEmpty(1, never);
  assert.equal(spool.entries.length, 2);
  serve('farm-1');
  await settle();
  assert.deepEqual([uploads.toSorted(), box.size], [['one/0', 'one/1', 'two/0'], 2]);
});

test('an upload that is refused for good is offered all the same, because the answer decides', async (t) => {
  const { box, offers, world, put } = await outbox(t);
  world.refusal = new FarmError('not_found', 'no such job');
  box.connected();
  await put('l', 0);
  await until(() => offers.length > 0);
  assert.deepEqual(offers, ['l/0']);
});

test('a file that is damaged on disk is given up and said so', async (t) => {
  const { box, verdicts, world, put } = await outbox(t);
  world.refusal = new FarmError('invalid_argument', 'sha256: the content differs');
  const entry = await put('l', 0);
  writeFileSync(entry.path, 'damaged');
  box.connected();
  await until(() => verdicts.length > 0);
  assert.deepEqual(verdicts, ['l/0 corrupt']);
  assert.equal(box.size, 0);
});

test('"try again" uploads again after a while, and an offer without an answer is repeated', async (t) => {
  const { box, clock, uploads, offers, put } = await outbox(t);
  box.connected();
  await put('l', 0);
  await settle();
  box.tryAgain({ leaseId: 'l', clip: 0 }, 'disk full');
  await settle();
  assert.equal(uploads.length, 1);
  clock.advance(1000);
  await settle();
  assert.equal(uploads.length, 2);
  clock.advance(29_000);
  assert.equal(offers.length, 2);
  clock.advance(1000);
  assert.equal(offers.length, 3);
  assert.equal(uploads.length, 2);
});

test('a file counts until it has left the disk, and is judged once', async (t) => {
  const { box, spool, uploads, verdicts, put } = await outbox(t);
  const disk = Promise.withResolvers<void>();
  const remove = spool.remove.bind(spool);
  t.mock.method(spool, 'remove', async (entry: SpoolEntry) => {
    if (nameOf(entry) === 'l/0') await disk.promise;
    await remove(entry);
  });
  box.connected();
  await put('l', 0);
  await put('l', 1);
  await settle();
  let settled = false;
  const waiting = box.whenSettled('l', never).then(() => (settled = true));
  const first = box.judged({ leaseId: 'l', clip: 0 }, 'committed', '');
  await box.judged({ leaseId: 'l', clip: 0 }, 'rejected', 'a repeat');
  box.tryAgain({ leaseId: 'l', clip: 0 }, 'too late');
  await box.judged({ leaseId: 'l', clip: 1 }, 'committed', '');
  await settle();
  assert.deepEqual([settled, box.size], [false, 1]);
  disk.resolve();
  await first;
  await waiting;
  assert.deepEqual(verdicts, ['l/1 committed', 'l/0 committed']);
  assert.equal(uploads.length, 2);
});

test('a lease is settled once all its files are judged, or after 20 connected seconds without news', async (t) => {
  const { box, clock, put } = await outbox(t);
  let settled = 0;
  const wait = (leaseId: string) => box.whenSettled(leaseId, never).then(() => (settled += 1));
  await put('l', 0);
  await put('l', 1);
  await put('m', 0);
  const waiting = wait('l');
  clock.advance(3_600_000);
  await settle();
  assert.equal(settled, 0, 'without a link it waits');
  box.connected();
  await settle();
  clock.advance(19_000);
  await box.judged({ leaseId: 'l', clip: 0 }, 'committed', '');
  clock.advance(19_000);
  await settle();
  assert.equal(settled, 0, 'news begins the time anew');
  await box.judged({ leaseId: 'l', clip: 1 }, 'committed', '');
  await waiting;
  const other = wait('m');
  clock.advance(20_000);
  await other;
  assert.equal(box.size, 1);
  await assert.rejects(box.whenSettled('m', AbortSignal.abort(new Error('over'))), /over/);
});
