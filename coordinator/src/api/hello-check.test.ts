import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { Gpu, SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { checkGpus, checkHello, checkSlot, checkTerm } from './hello-check.ts';

const MANY = Array.from({ length: 64 }, (_, index) => index);

/** A slot that says so much of its runner. */
function slot(slotId: string, versions: number, length: number): SlotInfo {
  const entries = MANY.slice(0, versions).map((n) => [`part-${n}`, 'x'.repeat(length)]);
  return SlotInfo.fromPartial({ slotId, profile: 'own', gpus: [0], runnerVersions: Object.fromEntries(entries) });
}

/** A GPU that is braked for so many reasons. */
function gpu(index: number, reasons: number): Gpu {
  const throttleReasons = Array.from({ length: reasons }, () => 'x'.repeat(100));
  return Gpu.fromPartial({ index, name: 'NVIDIA H200', uuid: `GPU-${index}`, throttleReasons });
}

function hello(slots: readonly SlotInfo[], gpus: readonly Gpu[], version = '1.0.0'): Hello {
  const who = { nodeId: 'n', name: 'n', pool: 'default', version, protocol: 1 };
  return Hello.fromPartial({ ...who, slots: [...slots], gpus: [...gpus] });
}

test('a host of many slots and GPUs is heard; one that says more of each than hosts do, all in all, is not', () => {
  checkHello(
    hello(
      MANY.map((n) => slot(`${n}`, 8, 40)),
      MANY.map((n) => gpu(n, 1)),
    ),
  );
  const fat = hello(
    MANY.map((n) => slot(`${n}`, 32, 200)),
    MANY.map((n) => gpu(n, 32)),
  );
  assert.throws(() => checkHello(fat), {
    code: 'invalid_argument',
    field: 'hello',
    message: /^hello has \d{6} bytes; accepted: at most 65536 bytes$/,
  });
  assert.throws(() => checkHello(hello([slot('0', 1, 1)], [], 'v'.repeat(101))), {
    field: 'hello.version',
    message: /accepted: at most 100 characters$/,
  });
});

test('what an agent says of its slots and GPUs later is bounded as well', () => {
  checkSlot(slot('0', 32, 200));
  assert.throws(() => checkSlot({ ...slot('0', 32, 200), runnerVersions: { long: 'ü'.repeat(5000) } }), {
    code: 'invalid_argument',
    field: 'slot',
    message: /^slot has 10\d{3} bytes; accepted: at most 8192 bytes$/,
  });
  checkGpus(MANY.map((n) => gpu(n, 4)));
  const fat = MANY.map((n) => gpu(n, 32));
  assert.throws(() => checkGpus(fat), {
    code: 'invalid_argument',
    field: 'gpus',
    message: /^gpus has \d{6} bytes; accepted: at most 65536 bytes$/,
  });
});

test('an agent that knows a later leader of the same farm is refused, whoever else knows what', () => {
  assert.throws(() => checkTerm({ farmId: 'a', term: 8 }, 'a', 7), {
    code: 'unavailable',
    message: 'the agent knows term 8 of this farm, this coordinator leads in term 7',
  });
  checkTerm({ farmId: 'a', term: 7 }, 'a', 7);
  checkTerm({ farmId: 'b', term: 8 }, 'a', 7);
  checkTerm({ farmId: '', term: 0 }, 'a', 1);
});

test('what an agent calls itself is one line that can be shown and logged', () => {
  const good = { ...hello([slot('0', 1, 1)], []), name: 'Rechner 7 – Süd', pool: 'אולפן' };
  checkHello(good);
  for (const field of ['name', 'version', 'pool']) {
    for (const bad of [
      'two\nlines',
      'c\u001b[31m',
      'c\u009b31m',
      'turned \u202eround',
      '\u2066isolated',
      'x'.repeat(101),
    ]) {
      assert.throws(() => checkHello({ ...good, [field]: bad }), { code: 'invalid_argument', field: `hello.${field}` });
    }
  }
  assert.throws(() => checkHello({ ...good, name: '' }), { field: 'hello.name' });
});
