import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { RunnerHost } from './runner-host.ts';
import { syntheticProfile } from './synthetic-profile.ts';
import { processesOf } from './testing/agent-process.ts';
import { until } from './testing/fake-coordinator.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const settings = { secondsPerClip: 0, warmUpSeconds: 0, loadSeconds: 0, memoryGib: undefined, runnerArgs: [] };

function host(
  t: TestContext,
  change: { runnerArgs?: readonly string[]; node?: string; loadSilenceMillis?: number } = {},
) {
  const dir = temporaryDirectory(t);
  const gone: string[] = [];
  const { runnerArgs = [], node = process.execPath, ...limits } = change;
  const profile = {
    ...syntheticProfile({ ...settings, runnerArgs }, node, { PATH: process.env.PATH ?? '' }),
    ...limits,
  };
  const found = new RunnerHost({
    ...{ profile, socketDir: dir, clock: systemClock, random: () => 0, log },
    onMessage: async () => {},
    onGone: (message) => gone.push(message),
  });
  t.after(() => found.close(1000));
  return { host: found, gone, dir };
}

test('the runner is started once and stays until it is closed', async (t) => {
  const { host: found, gone, dir } = host(t);
  assert.deepEqual(await Promise.all([found.ready(), found.ready()]), [null, null]);
  assert.equal(await found.ready(), null);
  assert.equal(processesOf(dir).length, 1);
  await found.close(5000);
  assert.deepEqual(processesOf(dir), []);
  assert.equal(gone.length, 1);
  assert.equal((await found.ready())?.failureClass, 'environment');
});

test('a runner that was killed is told once and comes back by itself', async (t) => {
  const { host: found, gone, dir } = host(t);
  await found.ready();
  const [before] = processesOf(dir);
  found.kill();
  await until(() => gone.length === 1, 'the end is told');
  assert.match(gone[0] ?? '', /the runner ended with signal SIGKILL/);
  assert.equal(found.recovering, true);
  await until(() => !found.recovering, 'it is back');
  assert.notEqual(processesOf(dir)[0]?.pid, before?.pid);
});

test('a runner that can not start is reported with its own words and tried again', async (t) => {
  const { host: found } = host(t, { runnerArgs: ['--drift', 'much'] });
  const failure = await found.ready();
  assert.equal(failure?.failureClass, 'crash');
  assert.match(failure?.message ?? '', /the runner did not start: .*--drift/);
  assert.equal(found.recovering, true);
  const missing = host(t, { node: '/nowhere/node' });
  const other = await missing.host.ready();
  assert.equal(other?.failureClass, 'environment');
  assert.match(other?.message ?? '', /cannot run \/nowhere\/node/);
});

test('it works again as soon as what was missing is there', async (t) => {
  const dir = temporaryDirectory(t);
  const node = join(dir, 'node');
  const { host: found } = host(t, { node });
  assert.equal((await found.ready())?.failureClass, 'environment');
  writeFileSync(node, `#!/bin/sh\nexec ${process.execPath} "$@"\n`, { mode: 0o755 });
  await until(() => !found.recovering, 'the runner is up');
  assert.equal(await found.ready(), null);
  assert.ok(existsSync(node));
});

test('a runner that falls silent while it loads is killed as a hang', async (t) => {
  const { host: found, dir } = host(t, { runnerArgs: ['--load-seconds', '3600'], loadSilenceMillis: 300 });
  const failure = await found.ready();
  assert.equal(failure?.failureClass, 'hang');
  assert.match(failure?.message ?? '', /silent for 0.3 s/);
  await found.close(1000);
  assert.deepEqual(processesOf(dir), []);
});
