import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shortComplaint } from './probe-audio.ts';

test('a complaint of FFmpeg is told once, without paths, addresses and exit status', () => {
  const path = '/var/lib/clipfarm/artifacts/files/inputs/ab12';
  const said = `ffprobe ended with status 1: [mov,mp4 @ 0x55d0] moov atom not found\n${path}: Invalid data found`;
  assert.equal(shortComplaint(said, path), 'moov atom not found; Invalid data found');
  const twice = '/opt/ffmpeg ended with signal SIGKILL: [png @ 0x1] chunk too big\n[png @ 0x2] chunk too big\n';
  assert.equal(shortComplaint(twice, path), 'chunk too big');
  assert.equal(shortComplaint(`cannot seek in ${path} `, path), 'cannot seek in the file');
});
