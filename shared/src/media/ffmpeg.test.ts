import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { FarmError } from '../errors.ts';
import { findFfmpeg, judgeVersion } from './ffmpeg.ts';

let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'clipfarm-ffmpeg-'));
});

after(() => rm(dir, { recursive: true, force: true }));

/** A program that answers like FFmpeg. */
async function pretend(program: 'ffmpeg' | 'ffprobe', version: string, encoders: readonly string[]): Promise<string> {
  const path = join(dir, `${program}-${version}-${encoders.length}`);
  const list = encoders.map((name) => ` V....D ${name}  described`).join('\n');
  const lines = [
    '#!/bin/sh',
    'case "$*" in',
    `*-encoders*) echo '${list}';;`,
    `*) echo '${program} version ${version} Copyright';;`,
  ];
  await writeFile(path, [...lines, 'esac', ''].join('\n'));
  await chmod(path, 0o755);
  return path;
}

const all = ['libx264', 'aac', 'png', 'pcm_s16le'];

async function find(version: string, encoders: readonly string[], probeVersion = version) {
  const ffmpegPath = await pretend('ffmpeg', version, encoders);
  return findFfmpeg({ ffmpegPath, ffprobePath: await pretend('ffprobe', probeVersion, []) });
}

test('the FFmpeg of this machine is found', async () => {
  const found = await findFfmpeg();
  assert.equal(found.ffmpeg, 'ffmpeg');
  assert.equal(found.ffprobe, 'ffprobe');
  assert.notEqual(found.version, '');
});

test('versions from 4.4 on and builds from git are accepted', () => {
  for (const version of ['4.4', '4.4.2-0ubuntu0.22.04.1', '5.1.9-0+deb12u1', 'n6.1', '10.0', '7.0.2-static']) {
    assert.equal(judgeVersion(version), 'ok', version);
  }
  for (const version of ['N-109468-gd39b34123d', 'git-2020-06-23-ce297b4', '2023-01-05-git-94aa70d757-full_build']) {
    assert.equal(judgeVersion(version), 'ok', version);
  }
  for (const version of ['4.3.7-0+deb11u1', '3.4', 'n2.8', '0.11']) assert.equal(judgeVersion(version), 'old', version);
  for (const version of ['', 'UNKNOWN', 'v5']) assert.equal(judgeVersion(version), 'unknown', version);
});

test('a usable FFmpeg at a given path is taken', async () => {
  assert.equal((await find('6.0', all)).version, '6.0');
});

test('a missing program is a failed precondition that says how to get it', async () => {
  for (const paths of [{ ffmpegPath: '/nowhere/ffmpeg' }, { ffprobePath: '/nowhere/ffprobe' }]) {
    await assert.rejects(findFfmpeg(paths), (error: unknown) => {
      assert.ok(error instanceof FarmError);
      assert.equal(error.code, 'failed_precondition');
      assert.match(error.message, /^cannot run \/nowhere\/ff\w+: no such program/);
      assert.match(error.hint ?? '', /Install FFmpeg 4\.4 or newer/);
      return true;
    });
  }
});

test('a program that is too old, strange or incomplete is refused with the reason', async () => {
  const code = 'failed_precondition';
  await assert.rejects(find('4.2.7', all), { code, message: /ffmpeg\S* is too old: 4\.2\.7; needed is 4\.4 or newer/ });
  await assert.rejects(find('6.1', all, '3.4.1'), { code, message: /ffprobe\S* is too old: 3\.4\.1/ });
  await assert.rejects(find('6.1', ['aac', 'png']), { code, message: /without the encoders libx264, pcm_s16le/ });
  await assert.rejects(findFfmpeg({ ffmpegPath: '/bin/echo' }), { code, message: /does not answer like ffmpeg/ });
});
