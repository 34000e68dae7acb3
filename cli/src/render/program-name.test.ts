import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCli } from '../program.ts';
import { testShell } from '../testing/test-shell.ts';
import { asTyped } from './program-name.ts';

const NPX = 'npx clipfarm';

/** What a command prints that npx started. */
async function underNpx(...argv: string[]) {
  const shell = testShell({ npm_lifecycle_event: 'npx', CLIPFARM_COORDINATOR: '127.0.0.1:1' });
  await runCli(argv, shell);
  return shell.stdout.text + shell.stderr.text;
}

test('commands are told as the user has to type them', () => {
  assert.equal(asTyped('Start one with `clipfarm up`.', NPX), 'Start one with `npx clipfarm up`.');
  assert.equal(asTyped('clipfarm job get 3f', NPX), 'npx clipfarm job get 3f');
  assert.equal(asTyped('clipfarm job get 3f', 'clipfarm'), 'clipfarm job get 3f');
  for (const text of [
    'npx clipfarm up',
    'cli/bin/clipfarm up',
    '/var/clipfarm jobs',
    'a version of clipfarm that is newer',
    'the user clipfarm updates',
  ]) {
    assert.equal(asTyped(text, NPX), text);
  }
});

test('help, usage errors and hints follow how the program was started, every command is known', async () => {
  const help = await underNpx('--help');
  assert.match(help, /^Usage: npx clipfarm \[options\]/);
  const commands = [...help.matchAll(/^ {2}([a-z]+) /gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'help');
  assert.ok(commands.length > 10, commands.join(' '));
  for (const name of commands) assert.equal(asTyped(`clipfarm ${name} x`, NPX), `${NPX} ${name} x`);
  assert.match(await underNpx('job', 'get', '--help'), /Examples:\n {2}npx clipfarm job get 3f9a/);
  assert.match(await underNpx('job', 'get'), /try: npx clipfarm job get --help/);
  assert.match(await underNpx('jobs'), /try: Start one with `npx clipfarm up`/);
});
