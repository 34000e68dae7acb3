import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { id3TagBytes, sniffAudio } from './audio-format.ts';
import { findRiffChunk } from './wav.ts';

const sniff = (bytes: readonly number[] | string, tagged = false) =>
  sniffAudio(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : Buffer.from(bytes), tagged)?.demuxer;

test('files are recognised by their first bytes', () => {
  assert.equal(sniff('RIFF....WAVEfmt '), 'wav');
  assert.equal(sniff('RIFF....WEBPVP8 '), undefined);
  assert.equal(sniff('fLaC............'), 'flac');
  assert.equal(sniff('OggS............'), 'ogg');
  assert.equal(sniff('....ftypM4A ....'), 'mov');
  assert.equal(sniff([0xff, 0xfb, 0x90, 0x64]), 'mp3');
  assert.equal(sniff([0xff, 0xf3, 0x40, 0xc4]), 'mp3');
  assert.equal(sniff([0xff, 0xf1, 0x50, 0x80]), 'aac');
  assert.equal(sniff([0xff, 0xf9, 0x50, 0x80]), 'aac');
  assert.equal(sniff([0xff, 0xd8, 0xff, 0xe0]), undefined, 'a JPEG');
  assert.equal(sniff('%PDF-1.7'), undefined);
  assert.equal(sniff('\0\0\0\0', true), 'mp3', 'padding behind a tag');
});

test('the size of a tag is read seven bits at a time', () => {
  assert.equal(id3TagBytes(Buffer.from('ID3\x04\0\0\0\0\x02\x01', 'latin1')), 10 + 257);
  assert.equal(id3TagBytes(Buffer.from('ID3\x04\0\x10\0\0\x02\x01', 'latin1')), 20 + 257);
  assert.equal(id3TagBytes(Buffer.from('ID3', 'latin1')), 0);
});

test('no bytes make recognition throw or hang', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, tagged) => {
      const head = Buffer.from(bytes);
      sniffAudio(head, tagged);
      id3TagBytes(head);
      findRiffChunk(head, 'data');
    }),
  );
});
