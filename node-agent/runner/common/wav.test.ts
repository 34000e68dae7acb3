import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wavLayout } from './wav.ts';

interface Shape {
  readonly format?: number;
  readonly channels?: number;
  readonly rate?: number;
  readonly bits?: number;
}

function chunk(tag: string, body: Buffer, size = body.length): Buffer {
  const head = Buffer.alloc(8);
  head.write(tag, 0, 'latin1');
  head.writeUInt32LE(size, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
}

function format({ format = 1, channels = 1, rate = 16_000, bits = 16 }: Shape = {}): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt16LE(format, 0);
  body.writeUInt16LE(channels, 2);
  body.writeUInt32LE(rate, 4);
  body.writeUInt16LE(bits, 14);
  return chunk('fmt ', body);
}

function wav(...chunks: Buffer[]): Buffer {
  return chunk('RIFF', Buffer.concat([Buffer.from('WAVE'), ...chunks]));
}

test('samples are found behind other chunks of odd length', () => {
  const file = wav(format(), chunk('LIST', Buffer.from('abc')), chunk('data', Buffer.alloc(10)));
  assert.deepEqual(wavLayout(file, file.length), { offset: file.length - 10, samples: 5 });
});

test('a data size that nobody filled in means all that is there', () => {
  const file = wav(format(), chunk('data', Buffer.alloc(11), 0xffffffff));
  const whole = file.subarray(0, file.length - 1);
  assert.deepEqual(wavLayout(whole, whole.length), { offset: 44, samples: 5 });
});

const refused: readonly (readonly [string, Buffer, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), /is no RIFF WAVE file/],
  ['an MP3 file', Buffer.from('ID3\u0004 and so on and on'), /is no RIFF WAVE file/],
  ['stereo', wav(format({ channels: 2 }), chunk('data', Buffer.alloc(4))), /with 2 channels/],
  ['another sample rate', wav(format({ rate: 48_000 }), chunk('data', Buffer.alloc(4))), /at 48000 Hz/],
  [
    'floating point',
    wav(format({ format: 3, bits: 32 }), chunk('data', Buffer.alloc(4))),
    /format 3 with 1 channels of 32/,
  ],
  ['a file without samples', wav(format()), /has no samples/],
  ['samples without a format', wav(chunk('data', Buffer.alloc(4))), /has no format before its samples/],
];

for (const [what, file, message] of refused) {
  test(`${what} is refused with what is accepted`, () => {
    assert.throws(() => wavLayout(file, file.length), { code: 'invalid_argument', field: 'audioPath', message });
  });
}
