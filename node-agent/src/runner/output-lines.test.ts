import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_LINE_LENGTH, outputLines } from './output-lines.ts';

function linesOf(pieces: readonly Uint8Array[]): string[] {
  const lines: string[] = [];
  const splitter = outputLines((line) => lines.push(line));
  for (const piece of pieces) splitter.push(piece);
  splitter.end();
  return lines;
}

test('lines come out whole, however the bytes are split', () => {
  const text = 'first\nzweite Zeile: Grüße\r\n\n 33%\r 66%\r100%\nlast';
  const expected = ['first', 'zweite Zeile: Grüße', ' 33%', ' 66%', '100%', 'last'];
  const bytes = Buffer.from(text);
  fc.assert(
    fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
      const ends = [...cuts, bytes.length].sort((a, b) => a - b);
      assert.deepEqual(linesOf(ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end))), expected);
    }),
  );
});

test('a line without an end is cut, not collected', () => {
  const piece = Buffer.alloc(10_000, 'x');
  const lines = linesOf([piece, piece, piece, Buffer.from('\nnext\n')]);
  assert.deepEqual(lines, [`${'x'.repeat(MAX_LINE_LENGTH)} [cut]`, 'next']);
});
