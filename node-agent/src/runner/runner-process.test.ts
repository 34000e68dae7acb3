import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FarmError } from '@clipfarm/shared/errors';
import type { FromRunner } from './protocol.ts';
import { type RunnerOptions, RunnerProcess } from './runner-process.ts';
import { ended, isRunning } from './testdata/processes.ts';

const FAKE = fileURLToPath(new URL('./testdata/fake-runner.ts', import.meta.url));
const ENV = { PATH: process.env.PATH ?? '' };

/** A started fake runner with everything it said. */
interface Fake {
  readonly runner: RunnerProcess;
  readonly messages: FromRunner[];
  readonly lines: string[];
  /** Waits for a message whose JSON matches, and gives the match. */
  said(pattern: RegExp): Promise<RegExpMatchArray>;
}

async function optionsFor(t: TestContext, behaviour: string): Promise<RunnerOptions> {
  const socketDir = await mkdtemp(join(tmpdir(), 'rp-'));
  t.after(() => rm(socketDir, { recursive: true, force: true }));
  return {
    command: process.execPath,
    args: [FAKE, behaviour],
    env: ENV,
    socketDir,
    onMessage: async () => {},
    onStderr: () => {},
    helloTimeoutMs: 30_000,
  };
}

async function startFake(t: TestContext, behaviour: string, extra: Partial<RunnerOptions> = {}): Promise<Fake> {
  const messages: FromRunner[] = [];
  const lines: string[] = [];
  const options = await optionsFor(t, behaviour);
  const runner = await RunnerProcess.start({
    ...options,
    onMessage: async (message) => void messages.push(message),
    onStderr: (line) => void lines.push(line),
    ...extra,
  });
  t.after(() => runner.kill());
  const said = async (pattern: RegExp): Promise<RegExpMatchArray> => {
    for (;;) {
      for (const message of messages) {
        const match = pattern.exec(JSON.stringify(message));
        if (match !== null) return match;
      }
      await sleep(5);
    }
  };
  return { runner, messages, lines, said };
}

test('a runner is greeted, spoken to and closed', async (t) => {
  const { runner, messages } = await startFake(t, 'polite');
  assert.deepEqual(runner.hello, {
    ...{ type: 'hello', protocol: 2, runner: 'fake', version: '9', pid: runner.pid },
    ...{ capabilities: { setEnd: true, continues: false }, versions: {} },
  });
  await runner.send({ type: 'load' });
  await runner.send({ type: 'cancel', leaseId: 'l' });
  assert.deepEqual(await runner.close(60_000), { code: 0, signal: null, fault: null });
  assert.deepEqual(
    messages.flatMap((message) => (message.type === 'loading' ? [message.phase] : [])),
    ['socket 600 directory 700', 'environment PATH', 'got load', 'got cancel'],
  );
  await assert.rejects(runner.send({ type: 'load' }), { code: 'unavailable', message: /"load" was not sent/ });
});

test('the socket is gone from the file system once the runner is connected', async (t) => {
  const options = await optionsFor(t, 'silent');
  await assert.rejects(RunnerProcess.start({ ...options, helloTimeoutMs: 1 }), { code: 'timeout' });
  assert.deepEqual(await readdir(options.socketDir), []);
  const runner = await RunnerProcess.start({ ...options, args: [FAKE, 'last-words'] });
  assert.deepEqual(await readdir(options.socketDir), []);
  await runner.exited;
});

test('a runner that says nothing is killed and reported as late', async (t) => {
  const options = await optionsFor(t, 'silent');
  await assert.rejects(RunnerProcess.start({ ...options, helloTimeoutMs: 300 }), {
    code: 'timeout',
    message: /sent no hello within 0\.3 s/,
  });
});

test('a runner that ends before its hello is reported with its status and its last output', async (t) => {
  await assert.rejects(RunnerProcess.start(await optionsFor(t, 'early-exit')), {
    code: 'internal',
    message: /ended with status 3 before its hello; its last output: no CUDA device found$/,
  });
});

test('a runner of another protocol version is refused', async (t) => {
  await assert.rejects(RunnerProcess.start(await optionsFor(t, 'old-protocol')), {
    code: 'failed_precondition',
    message: 'fake 9 speaks protocol 0; 2 is accepted',
  });
});

test('a first message other than hello is refused', async (t) => {
  await assert.rejects(RunnerProcess.start(await optionsFor(t, 'no-greeting')), {
    code: 'invalid_argument',
    message: 'first message is "loading"; "hello" is accepted',
  });
});

test('a program that is not there is a failed precondition that names it', async (t) => {
  const options = await optionsFor(t, 'polite');
  await assert.rejects(RunnerProcess.start({ ...options, command: '/nonexistent/python' }), {
    code: 'failed_precondition',
    field: 'command',
    message: /cannot run \/nonexistent\/python/,
  });
  await assert.rejects(RunnerProcess.start({ ...options, args: ['a\0b'] }), { code: 'failed_precondition' });
  assert.deepEqual(await readdir(options.socketDir), []);
});

test('a socket path that the kernel would cut is refused', async (t) => {
  const options = await optionsFor(t, 'polite');
  const socketDir = join(options.socketDir, 'x'.repeat(100));
  await assert.rejects(RunnerProcess.start({ ...options, socketDir }), {
    code: 'invalid_argument',
    field: 'socketDir',
    message: /is longer than 96 bytes$/,
  });
});

test('an aborted start throws the reason and leaves nothing running', async (t) => {
  const options = await optionsFor(t, 'silent');
  const reason = new FarmError('unavailable', 'the agent leaves');
  const stop = new AbortController();
  const start = RunnerProcess.start({ ...options, signal: stop.signal });
  setTimeout(() => stop.abort(reason), 50);
  await assert.rejects(start, reason);
  await assert.rejects(RunnerProcess.start({ ...options, signal: AbortSignal.abort(reason) }), reason);
  assert.deepEqual(await readdir(options.socketDir), []);
});

test('a start that is aborted between the hello and its end leaves nothing running either', async (t) => {
  const options = await optionsFor(t, 'polite');
  const reason = new FarmError('unavailable', 'the agent leaves');
  const stop = new AbortController();
  const start = RunnerProcess.start({
    ...options,
    signal: stop.signal,
    onMessage: async () => stop.abort(reason),
  });
  start.then((runner) => runner.kill()).catch(() => {});
  await assert.rejects(start, reason);
});

test('everything a runner said and printed before it fell is delivered before its end', async (t) => {
  const { runner, messages, lines } = await startFake(t, 'last-words');
  assert.deepEqual(await runner.exited, { code: 7, signal: null, fault: null });
  assert.deepEqual(messages, [{ type: 'error', class: 'device', message: 'XID 79' }]);
  assert.deepEqual(lines, ['falling', 'off the bus']);
});

test('a malformed message kills the runner and is the fault', async (t) => {
  const { runner } = await startFake(t, 'garbage');
  const { signal, fault } = await runner.exited;
  assert.equal(signal, 'SIGKILL');
  assert.equal(fault?.code, 'invalid_argument');
  assert.match(fault?.message ?? '', /header of 1195725856 bytes/);
});

test('a handler that rejects kills the runner and is the fault', async (t) => {
  const refusal = new FarmError('resource_exhausted', 'disk is full');
  const { runner } = await startFake(t, 'polite', { onMessage: () => Promise.reject(refusal) });
  assert.deepEqual(await runner.exited, { code: null, signal: 'SIGKILL', fault: refusal });
});

test('a busy handler holds the runner back, one message at a time', async (t) => {
  const gate = Promise.withResolvers<void>();
  const lines: string[] = [];
  let inside = 0;
  let taken = 0;
  const { runner } = await startFake(t, 'flood', {
    onStderr: (line) => void lines.push(line),
    onMessage: async () => {
      inside += 1;
      assert.equal(inside, 1);
      await gate.promise;
      inside -= 1;
      taken += 1;
    },
  });
  // The second message can be on its way into buffers of the kernel, which hold less than it; the third can't be begun.
  while (lines.length < 2) await sleep(5);
  await sleep(200);
  assert.deepEqual(lines, ['sent 1', 'sent 2']);
  assert.equal(taken, 0);
  gate.resolve();
  while (taken < 5) await sleep(5);
  runner.kill();
  assert.equal((await runner.exited).signal, 'SIGKILL');
});

test('a runner deaf to the shutdown message is terminated after half of the grace, with its children', async (t) => {
  const { runner, said } = await startFake(t, 'deaf-to-shutdown');
  const child = Number((await said(/child (\d+)/))[1]);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const closed = runner.close(1000);
  t.mock.timers.tick(499);
  assert.ok(isRunning(runner.pid));
  t.mock.timers.tick(1);
  assert.deepEqual(await closed, { code: null, signal: 'SIGTERM', fault: null });
  await ended(child);
});

test('a runner deaf to everything is killed when the grace is over', async (t) => {
  const { runner, said } = await startFake(t, 'deaf-to-sigterm');
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const closed = runner.close(1000);
  t.mock.timers.tick(500);
  await said(/ignored SIGTERM/);
  t.mock.timers.tick(500);
  assert.deepEqual(await closed, { code: null, signal: 'SIGKILL', fault: null });
});

test('the children of a runner that crashed are killed', async (t) => {
  const { runner, said } = await startFake(t, 'leaves-child');
  const child = Number((await said(/child (\d+)/))[1]);
  assert.ok(isRunning(child));
  await runner.send({ type: 'load' });
  assert.equal((await runner.exited).signal, 'SIGKILL');
  await ended(child);
});
