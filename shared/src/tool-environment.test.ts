import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runTool } from './process.ts';
import { toolEnvironment } from './tool-environment.ts';

test('a tool inherits listed names only', () => {
  const own = {
    PATH: '/bin',
    HOME: '/root',
    LANG: undefined,
    LC_NUMERIC: 'de_DE',
    LD_LIBRARY_PATH: '/opt/ffmpeg/lib',
    TMPDIR: '/scratch',
    AWS_SECRET_ACCESS_KEY: 'k',
    CLIPFARM_TOKEN: 's3cret',
    LD_PRELOAD: '/tmp/x.so',
  };
  assert.deepEqual(toolEnvironment(own), {
    PATH: '/bin',
    HOME: '/root',
    LC_NUMERIC: 'de_DE',
    LD_LIBRARY_PATH: '/opt/ffmpeg/lib',
    TMPDIR: '/scratch',
  });
});

test('a program that is run does not see the keys of the process, unless it is given them', async (t) => {
  process.env.AWS_SECRET_ACCESS_KEY = 'k';
  t.after(() => delete process.env.AWS_SECRET_ACCESS_KEY);
  const argv = ['-p', 'String(process.env.AWS_SECRET_ACCESS_KEY)'];
  const said = async (more: { env?: NodeJS.ProcessEnv }) =>
    (await runTool(process.execPath, argv, { timeoutMs: 60_000, ...more })).stdout.toString('utf8').trim();
  assert.equal(await said({}), 'undefined');
  assert.equal(await said({ env: process.env }), 'k');
});
