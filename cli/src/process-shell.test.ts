import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';

const launcher = fileURLToPath(new URL('../bin/clipfarm', import.meta.url));

async function run(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(launcher, argv, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = ['', ''];
  child.stdout.on('data', (part) => (texts[0] += String(part)));
  child.stderr.on('data', (part) => (texts[1] += String(part)));
  const code = await new Promise((resolve) => child.once('close', resolve));
  return { code, out: texts[0], err: texts[1] };
}

test('the launcher runs the program from anywhere and hands its exit code on', async () => {
  assert.match((await run(['version'])).out ?? '', /^clipfarm \d+\.\d+\.\d+ \(node 2[4-9]\./);
  assert.equal((await run(['jobs', '--limit', 'x'])).code, 2);
  assert.equal((await run(['jobs'], { CLIPFARM_COORDINATOR: '127.0.0.1:1' })).code, 3);
});

test('a reader that leaves early ends the program quietly', async () => {
  const child = spawn(launcher, ['presets'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let err = '';
  child.stderr.on('data', (part) => (err += String(part)));
  assert.equal(await new Promise((resolve) => child.once('close', resolve)), 0);
  assert.equal(err, '');
});

const full = { skip: !existsSync('/dev/full') && 'needs /dev/full' };

test('a full disk behind stdout is an error in one line, not a stack', full, async () => {
  const disk = openSync('/dev/full', 'w');
  const child = spawn(launcher, ['version'], { stdio: ['ignore', disk, 'pipe'] });
  closeSync(disk);
  let err = '';
  child.stderr?.on('data', (part) => (err += String(part)));
  assert.equal(await new Promise((resolve) => child.once('close', resolve)), 1);
  assert.match(err, /^error: cannot write to stdout: ENOSPC.*\n$/);
});

test('before the first setup the launcher says what to do', async (t) => {
  const root = temporaryDirectory(t);
  mkdirSync(join(root, 'cli', 'bin'), { recursive: true });
  const copy = join(root, 'cli', 'bin', 'clipfarm');
  copyFileSync(launcher, copy);
  const { status, stderr } = spawnSync(copy, ['up'], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /^error: the packages of .* are not installed\ntry: cd .* && npm run setup\n$/);
});

test('a service runs in place of the program: its output, its exit code', async () => {
  const help = await run(['coordinator', '--help']);
  assert.equal(help.code, 0);
  assert.match(help.out ?? '', /^Usage: clipfarm coordinator/);
  const refused = await run(['agent', '--no-such-flag']);
  assert.equal(refused.code, 2);
  assert.match(refused.err ?? '', /error: .*no-such-flag/);
});

test('a signal that ends a service before it is ready gives the exit code of that signal', async (t) => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const where = ['--data-dir', temporaryDirectory(t), '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'];
    const argv = ['coordinator', '--journal', 'nats://127.0.0.1:1', ...where];
    const child = spawn(launcher, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    t.after(() => child.kill('SIGKILL'));
    const ended = new Promise((resolve) => child.once('close', resolve));
    for await (const part of child.stderr) if (String(part).includes('cannot start yet')) child.kill(signal);
    assert.equal(await ended, code, signal);
  }
});

test('SIGUSR2 is for the service and does not end the program', async (t) => {
  const argv = ['agent', '--coordinator', '127.0.0.1:1', '--state-dir', temporaryDirectory(t)];
  const child = spawn(launcher, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let out = '';
  child.stderr.on('data', (part) => (out += String(part)));
  const printed = (text: string) =>
    new Promise<void>((resolve) => child.stderr.on('data', () => out.includes(text) && resolve()));
  const taken = printed('"the agent got SIGUSR2"');
  await printed('"agent runs"');
  child.kill('SIGUSR2');
  await taken;
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
});
