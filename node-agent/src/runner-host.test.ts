import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { LoadGate } from './load-gate.ts';
import type { SpanRequest } from './runner/protocol.ts';
import { DRIVER_MILLIS, RunnerHost, UNLOAD_MILLIS } from './runner-host.ts';
import { syntheticProfile } from './synthetic-profile.ts';
import { processesOf } from './testing/agent-process.ts';
import { until } from './testing/fake-coordinator.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const settings = { secondsPerClip: 0, warmUpSeconds: 0, loadSeconds: 0, memoryGib: undefined, runnerArgs: [] };

function host(
  t: TestContext,
  change: { runnerArgs?: readonly string[]; node?: string; loadSilenceMillis?: number } = {},
  clock: Clock = systemClock,
  gpuBytes: (group: number) => Promise<number | null> = async () => null,
) {
  const dir = temporaryDirectory(t);
  const gone: string[] = [];
  const { runnerArgs = [], node = process.execPath, ...limits } = change;
  const profile = {
    ...syntheticProfile({ ...settings, runnerArgs }, node, { PATH: process.env.PATH ?? '' }),
    ...limits,
  };
  const found = new RunnerHost({
    ...{ profile, gate: new LoadGate([]), socketDir: dir, clock, log },
    onMessage: async () => {},
    onLoaded: () => {},
    gpuBytes,
    onGone: (message) => gone.push(message),
  });
  t.after(() => found.close(1000));
  return { host: found, gone, dir };
}

/** A clock on which every wait but that for a loading model, or those that are named, is short, and the short waits. */
function hurried(now: () => number = () => 0, left: readonly number[] = []) {
  const waits: number[] = [];
  const clock: Clock = {
    ...systemClock,
    monotonic: now,
    setTimeout(fn, ms) {
      if (ms === LOAD_MILLIS || left.includes(ms)) return systemClock.setTimeout(fn, ms);
      waits.push(ms);
      return systemClock.setTimeout(fn, 1);
    },
  };
  return { clock, waits };
}

const LOAD_MILLIS = 30_000;

const span: SpanRequest = {
  ...{
    leaseId: 'l',
    jobId: 'j',
    span: 0,
    start: 0,
    end: 1,
    preRoll: 0,
    continues: null,
    clips: 1,
    width: 256,
    height: 256,
  },
  ...{ sampleSteps: 4, baseSeed: 0, prompt: '', referencePath: '/nowhere', anchored: false, audioPath: '/nowhere' },
};

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
  assert.notEqual(found.trouble, null);
  await until(() => found.trouble === null, 'it is back');
  assert.notEqual(processesOf(dir)[0]?.pid, before?.pid);
});

test('a runner that can not start is reported with its own words and tried again', async (t) => {
  const { host: found } = host(t, { runnerArgs: ['--drift', 'much'] });
  const failure = await found.ready();
  assert.equal(failure?.failureClass, 'crash');
  assert.match(failure?.message ?? '', /the runner did not start: .*--drift/);
  assert.equal(found.trouble, failure?.message);
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
  await until(() => found.trouble === null, 'the runner is up');
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

test('starts that fail are repeated after 0.5 s, then twice as long each time, up to a minute', async (t) => {
  const { clock, waits } = hurried();
  const { host: found } = host(t, { node: '/nowhere/node' }, clock);
  await found.ready();
  await until(() => waits.length >= 9, 'nine starts failed');
  assert.deepEqual(waits.slice(0, 9), [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  await found.close(1000);
  const { length } = waits;
  assert.equal((await found.ready())?.failureClass, 'environment');
  assert.equal(waits.length, length, 'a closed host waits for nothing');
});

test('a runner that had work, or lived for ten seconds, is replaced after 0.5 s however often', async (t) => {
  let now = 0;
  const { clock, waits } = hurried(() => now);
  const { host: found, gone } = host(t, { loadSilenceMillis: LOAD_MILLIS }, clock);
  const end = async () => {
    const { length } = gone;
    found.kill();
    await until(() => gone.length > length, 'the end is told');
    await until(() => found.trouble === null, 'it is back');
  };
  await found.ready();
  for (let round = 0; round < 3; round += 1) await end();
  assert.deepEqual(waits, [500, 1000, 2000], 'one that only loads is suspicious');
  for (let round = 0; round < 2; round += 1) {
    found.send({ type: 'render', request: span });
    await end();
  }
  assert.deepEqual(waits.slice(3), [500, 500]);
  await end();
  now += 10_000;
  await end();
  assert.deepEqual(waits.slice(5), [1000, 500]);
});

test('an unloaded runner goes on without its model, and loads it again when it is needed', async (t) => {
  const { host: found, gone, dir } = host(t);
  assert.equal(await found.unload('too early'), null);
  await found.ready();
  const [before] = processesOf(dir);
  // The lease that needs it may come while it is being unloaded.
  const unloading = found.unload('no work');
  assert.equal(await found.unload('twice'), null);
  assert.equal(await found.ready(), null);
  assert.equal(await unloading, 'given_back');
  assert.ok(found.loaded);
  assert.equal(await found.unload('no work'), 'given_back');
  assert.deepEqual([found.loaded, found.trouble, found.beginning], [false, null, null]);
  assert.equal(await found.ready(), null);
  assert.equal(processesOf(dir)[0]?.pid, before?.pid);
  assert.deepEqual(gone, []);
});

for (const [what, args, listed] of [
  ['says that it keeps memory', ['--unload-keeps-gib', '2'], null],
  ['keeps memory by the account of the driver', [], 16 * 2 ** 30],
] as const) {
  test(`a runner that ${what} is ended, is not missed, and comes back when it is needed`, async (t) => {
    const groups: number[] = [];
    const gpuBytes = async (group: number) => {
      groups.push(group);
      return listed;
    };
    const { clock, waits } = hurried(undefined, [UNLOAD_MILLIS]);
    const change = { runnerArgs: args, loadSilenceMillis: LOAD_MILLIS };
    const { host: found, gone, dir } = host(t, change, clock, gpuBytes);
    await found.ready();
    const [before] = processesOf(dir);
    assert.equal(await found.unload('no work'), 'ended');
    assert.deepEqual(groups, [before?.pid, before?.pid], 'before and after');
    assert.deepEqual(processesOf(dir), []);
    assert.deepEqual([found.trouble, gone], [null, []]);
    const { length } = waits;
    assert.equal(await found.ready(), null);
    assert.equal(waits.length, length, 'without a pause');
    assert.notEqual(processesOf(dir)[0]?.pid, before?.pid);
  });
}

test('a runner that does not answer an unload is ended after a minute', async (t) => {
  const { clock, waits } = hurried(undefined, [DRIVER_MILLIS]);
  const { host: found, dir } = host(t, { loadSilenceMillis: LOAD_MILLIS }, clock);
  await found.ready();
  const [runner] = processesOf(dir);
  assert.ok(runner !== undefined);
  process.kill(runner.pid, 'SIGSTOP');
  assert.equal(await found.unload('no work'), 'ended');
  assert.deepEqual(waits, [UNLOAD_MILLIS]);
  assert.equal(UNLOAD_MILLIS, 60_000);
  assert.deepEqual(processesOf(dir), []);
});

test('a runner that ends while it has no model is started when it is needed, and not before', async (t) => {
  const { host: found, gone, dir } = host(t);
  await found.ready();
  await found.unload('no work');
  found.kill();
  await until(() => processesOf(dir).length === 0, 'it is gone');
  assert.deepEqual([found.trouble, gone], [null, []]);
  assert.equal(await found.ready(), null);
  assert.equal(processesOf(dir).length, 1);
});

test('a driver that never answers holds up no unload, no lease after it and no end', async (t) => {
  const { clock, waits } = hurried(undefined, [UNLOAD_MILLIS]);
  const gpuBytes = () => new Promise<null>(() => {});
  const { host: found, dir } = host(t, { loadSilenceMillis: LOAD_MILLIS }, clock, gpuBytes);
  await found.ready();
  assert.equal(await found.unload('no work'), 'given_back');
  assert.deepEqual(waits, [DRIVER_MILLIS, DRIVER_MILLIS]);
  assert.equal(await found.ready(), null);
  assert.equal(processesOf(dir).length, 1);

  const patient = host(t, { loadSilenceMillis: LOAD_MILLIS }, systemClock, gpuBytes);
  await patient.host.ready();
  const unloading = patient.host.unload('no work');
  await patient.host.close(1000);
  assert.ok((await unloading) !== null);
});

test('closing while it unloads ends the runner', async (t) => {
  const { host: found, dir } = host(t);
  await found.ready();
  const unloading = found.unload('no work');
  await found.close(5000);
  assert.ok((await unloading) !== null);
  assert.deepEqual(processesOf(dir), []);
  assert.equal(await found.unload('closed'), null);
});
