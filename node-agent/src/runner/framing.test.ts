import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import fc from 'fast-check';
import { encodeFrame, type Frame, FrameDecoder } from './framing.ts';
import { type FromRunner, fromRunner, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, toRunner } from './protocol.ts';

interface Sent {
  readonly message: FromRunner;
  readonly payload: Uint8Array;
}

const plain: fc.Arbitrary<Sent> = fc
  .record({ leaseId: fc.string(), clip: fc.nat(), renderSeconds: fc.double({ min: 0, max: 1e6, noNaN: true }) })
  .map((fields) => ({
    message: { type: 'clip', peakMemoryBytes: 0, hostBytes: 0, ...fields },
    payload: new Uint8Array(0),
  }));

const frames: fc.Arbitrary<Sent> = fc
  .record({ leaseId: fc.string(), produced: fc.nat(), count: fc.integer({ min: 1, max: 12 }), pixels: fc.nat(50) })
  .map(({ leaseId, produced, count, pixels }) => ({
    message: { type: 'frames', leaseId, produced, count },
    payload: Uint8Array.from({ length: count * 3 * (pixels + 1) }, (_, i) => (i * 7) % 256),
  }));

/** `bytes` in pieces that end at `cuts`, positions in thousandths of the length. */
function split(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const ends = [...cuts.map((cut) => Math.floor((cut * bytes.length) / 1000)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
}

function decodeAll(pieces: readonly Uint8Array[]): Frame<FromRunner>[] {
  const decoder = new FrameDecoder(fromRunner);
  return pieces.flatMap((piece) => [...decoder.push(piece)]);
}

test('any split of the byte stream gives back the messages and payloads that were sent', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(plain, frames), { maxLength: 6 }), fc.array(fc.nat(1000)), (sent, cuts) => {
      const wire = Buffer.concat(sent.flatMap(({ message, payload }) => [...encodeFrame(message, payload)]));
      const decoded = decodeAll(split(wire, cuts));
      assert.deepEqual(
        decoded.map(({ message }) => message),
        sent.map(({ message }) => JSON.parse(JSON.stringify(message))),
      );
      assert.deepEqual(
        decoded.map(({ payload }) => Buffer.from(payload).toString('hex')),
        sent.map(({ payload }) => Buffer.from(payload).toString('hex')),
      );
    }),
  );
});

test('one byte at a time gives the same as the whole', () => {
  const wire = Buffer.concat([
    ...encodeFrame({ type: 'frames', leaseId: 'l', produced: 3, count: 2 }, Buffer.alloc(24, 5)),
  ]);
  const decoded = decodeAll([...wire].map((byte) => Uint8Array.of(byte)));
  assert.equal(decoded.length, 1);
  assert.deepEqual([...(decoded[0]?.payload ?? [])], new Array(24).fill(5));
});

test('arbitrary bytes give a FarmError or wait for more, nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }), (pieces) => {
      const decoder = new FrameDecoder(toRunner);
      try {
        for (const piece of pieces) for (const _ of decoder.push(piece));
      } catch (error) {
        assert.ok(error instanceof FarmError);
        assert.equal(error.code, 'invalid_argument');
      }
    }),
  );
});

function prefixed(header: string, payloadBytes = 0): Buffer {
  const body = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32BE(body.length, 0);
  prefix.writeUInt32BE(payloadBytes, 4);
  return Buffer.concat([prefix, body]);
}

function lengths(headerBytes: number, payloadBytes: number): Buffer {
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32BE(headerBytes, 0);
  prefix.writeUInt32BE(payloadBytes, 4);
  return prefix;
}

const malformed: readonly (readonly [string, Buffer, RegExp])[] = [
  ['a header over the limit', lengths(MAX_HEADER_BYTES + 1, 0), /header of 65537 bytes; 2 to 65536/],
  ['an empty header', lengths(0, 0), /header of 0 bytes/],
  ['a payload over the limit', lengths(2, MAX_PAYLOAD_BYTES + 1), /payload of 67108865 bytes; at most 67108864/],
  ['text that is not JSON', prefixed('{type:load}'), /not JSON in UTF-8: "\{type:load\}"/],
  ['an unknown type', prefixed('{"type":"dance"}'), /header\.type: Invalid/],
  ['a missing field', prefixed('{"type":"setEnd","leaseId":"a"}'), /header\.end: /],
  ['a payload where none belongs', prefixed('{"type":"load"}', 3), /payload of 3 bytes with "load"; none/],
];

for (const [what, bytes, message] of malformed) {
  test(`${what} is refused, and so is everything after it`, () => {
    const decoder = new FrameDecoder(toRunner);
    assert.throws(() => [...decoder.push(bytes)], { name: 'FarmError', code: 'invalid_argument', message });
    assert.throws(() => [...decoder.push(encodeFrame({ type: 'load' })[0] ?? Buffer.alloc(0))], { message });
  });
}

test('a header in broken UTF-8 is refused', () => {
  const bytes = Buffer.concat([lengths(3, 0), Buffer.from([0x22, 0xff, 0x22])]);
  assert.throws(() => [...new FrameDecoder(toRunner).push(bytes)], { code: 'invalid_argument', field: 'header' });
});

test('a payload that is no whole number of RGB frames is refused on both sides', () => {
  const header = '{"type":"frames","leaseId":"l","produced":0,"count":2}';
  for (const bytes of [0, 3, 10]) {
    assert.throws(() => [...new FrameDecoder(fromRunner).push(prefixed(header, bytes))], { field: 'payloadBytes' });
    assert.throws(() => encodeFrame({ type: 'frames', leaseId: 'l', produced: 0, count: 2 }, Buffer.alloc(bytes)), {
      field: 'payloadBytes',
    });
  }
});

test('nothing larger than the limits is ever encoded', () => {
  assert.throws(() => encodeFrame({ type: 'cancel', leaseId: 'x'.repeat(MAX_HEADER_BYTES) }), { field: 'headerBytes' });
});
