import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { pngHeader, wav } from '../testing/media-files.ts';
import { detectMediaType } from './media-type.ts';

const latin = (text: string) => Buffer.from(text.padEnd(64, '\0'), 'latin1');
const kindAndName = (head: Buffer) => {
  const type = detectMediaType(head);
  return type === undefined ? 'unknown' : `${type.kind} ${type.name}`;
};

test('files are known by their first bytes', () => {
  assert.equal(kindAndName(pngHeader(300, 300)), 'image PNG');
  assert.equal(kindAndName(latin('\xff\xd8\xff\xe0')), 'image JPEG');
  assert.equal(kindAndName(latin('RIFF\0\0\0\0WEBPVP8 ')), 'image WebP');
  assert.equal(kindAndName(latin('GIF89a')), 'image GIF');
  assert.equal(kindAndName(wav(10)), 'audio WAV');
  assert.equal(kindAndName(latin('RF64\0\0\0\0WAVE')), 'audio WAV');
  assert.equal(kindAndName(latin('fLaC')), 'audio FLAC');
  assert.equal(kindAndName(latin('ID3\x03')), 'audio MP3');
  assert.equal(kindAndName(latin('\xff\xfb\x90\x64')), 'audio MP3');
  assert.equal(kindAndName(latin('\xff\xf1\x50\x80')), 'audio AAC');
  assert.equal(kindAndName(latin('OggS\0\x02........................OpusHead')), 'audio Ogg');
  assert.equal(kindAndName(latin('OggS\0\x02......................\x80theora')), 'video Ogg video');
  assert.equal(kindAndName(latin('\0\0\0\x1cftypM4A \0\0\0\0')), 'audio M4A');
  assert.equal(kindAndName(latin('\0\0\0\x1cftypisom\0\0\0\0')), 'video MP4');
  assert.equal(kindAndName(latin('\0\0\0\x1cftypavif\0\0\0\0')), 'image AVIF or HEIC');
  assert.equal(kindAndName(latin('\x1a\x45\xdf\xa3')), 'video Matroska or WebM');
  assert.equal(kindAndName(latin('RIFF\0\0\0\0AVI LIST')), 'video AVI');
  assert.equal(kindAndName(latin('#!/bin/sh')), 'unknown');
  assert.equal(kindAndName(Buffer.alloc(0)), 'unknown');
});

test('no content makes the detection fail', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (content) => {
      detectMediaType(Buffer.from(content));
    }),
  );
});
