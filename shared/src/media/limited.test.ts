import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runTool } from '../process.ts';
import { temporaryDirectory } from '../testing/temporary.ts';
import { type Ffmpeg, findFfmpeg } from './ffmpeg.ts';
import { AUDIO_LIMITS, PICTURE_LIMITS, runLimited, withLimits } from './limited.ts';

const timeoutMs = 60_000;
const shell: Ffmpeg = { ffmpeg: 'sh', ffprobe: 'sh', version: '', prlimit: 'prlimit' };
const run = (tool: Ffmpeg, script: string) => runLimited(tool, 'ffmpeg', ['-c', script], AUDIO_LIMITS, { timeoutMs });

const skip = await runTool('prlimit', ['--version'], { timeoutMs }).then(
  () => false,
  () => 'prlimit is not here',
);

test('a run on a file has limits of memory and of computing', { skip }, async () => {
  const { stdout } = await run(shell, 'ulimit -v; ulimit -t');
  assert.equal(stdout.toString(), '1048576\n1800\n');
});

test('where nothing can set limits there are none', async () => {
  const tools = await findFfmpeg();
  assert.deepEqual(await withLimits(tools, '/nonexistent/prlimit'), tools);
  const { prlimit: _, ...without } = shell;
  assert.equal((await run(without, 'echo works')).stdout.toString(), 'works\n');
});

test('limits that a run does not fit into are not set', async () => {
  const tools = await findFfmpeg();
  // Stands in for a limiter under which FFmpeg can't start.
  assert.deepEqual(await withLimits(tools, 'false'), tools);
});

test('where only some of the limits can be set there are none', { skip }, async (t) => {
  const path = join(temporaryDirectory(t), 'prlimit');
  // Stands in for a process that must not have 4 GiB.
  await writeFile(path, `#!/bin/sh\n[ $1 = --as=${PICTURE_LIMITS.memoryBytes} ] && exit 1\nexec prlimit "$@"\n`, {
    mode: 0o755,
  });
  const tools = await findFfmpeg();
  assert.deepEqual(await withLimits(tools, path), tools);
});

test('FFmpeg works within the limits here', { skip }, async () => {
  const tools = await findFfmpeg();
  assert.deepEqual(await withLimits(tools), { ...tools, prlimit: 'prlimit' });
});

test('a run that ends at a limit says which limits there are', { skip }, async () => {
  const limits = /: FFmpeg may take 1024 MiB of memory and 1800 s of computing for one file/;
  await assert.rejects(run(shell, 'kill -KILL $$'), { code: 'internal', message: limits });
  await assert.rejects(run(shell, 'echo "x: Cannot allocate memory" >&2; exit 1'), {
    code: 'internal',
    message: new RegExp(`${limits.source}\nx: Cannot allocate memory$`),
  });
  assert.match((await run(shell, 'echo "[bmp @ 0x1] get_buffer() failed" >&2')).stderr, /^FFmpeg may take 1024 MiB/);
});

test('other faults are told as they are', { skip }, async () => {
  await assert.rejects(run(shell, 'echo damaged >&2; exit 1'), { message: 'prlimit ended with status 1: damaged' });
  await assert.rejects(run({ ...shell, ffmpeg: '/nonexistent/ffmpeg' }, 'true'), {
    code: 'failed_precondition',
    message: /^cannot run \/nonexistent\/ffmpeg: .*No such file/,
  });
});
