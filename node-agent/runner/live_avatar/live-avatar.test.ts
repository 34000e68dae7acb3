import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@clipfarm/shared/clock';
import { createLogger } from '@clipfarm/shared/log';
import { MAX_CLIPS_PER_CALL, modelAudioSamples } from '@clipfarm/shared/model/clip';
import { LoadGate } from '../../src/load-gate.ts';
import type { FromRunner, SpanRequest } from '../../src/runner/protocol.ts';
import { ended, isRunning } from '../../src/runner/testdata/processes.ts';
import { RunnerHost } from '../../src/runner-host.ts';
import {
  type Inputs,
  loadedRig,
  makeInputs,
  PYTHON,
  png,
  type Rig,
  RUNNERS,
  startOptions,
  startRig,
  wav,
} from './testdata/harness.ts';

/** GPU memory of the stand-in's transformer, and of four key-value caches for a picture of 64x64. */
const WEIGHT_BYTES = 2 ** 31;
const CONTEXT_BYTES = 2 ** 30;
/** What the stand-in's allocator takes beyond what it needs. */
const RESERVE_BYTES = 2 ** 33;
const CACHE_BYTES = 4 * 2 * (12 * 4 * 4) * 40 * 128 * 4;

/** The requests that a test varies, each with a lease of its own. */
function lease(inputs: Inputs, leaseId: string, changes: Partial<SpanRequest> = {}): SpanRequest {
  return { ...inputs.request, leaseId, ...changes };
}

/** Messages of a lease. */
function messagesOf<Type extends FromRunner['type']>(
  rig: Rig,
  type: Type,
  leaseId: string,
): Extract<FromRunner, { type: Type }>[] {
  return rig.arrived
    .map(({ message }) => message)
    .filter((message) => message.type === type && 'leaseId' in message && message.leaseId === leaseId) as Extract<
    FromRunner,
    { type: Type }
  >[];
}

test('Python 3.10 or newer is there', () => {
  const { error, stdout } = spawnSync(PYTHON, ['-c', 'import sys; print(sys.version_info >= (3, 10))']);
  const what = `${PYTHON} is not Python 3.10 or newer: install it, or set CLIPFARM_PYTHON to the one to use`;
  assert.ok(error === undefined && String(stdout).trim() === 'True', what);
});

test('it counts the clips of an audio file as the coordinator does, and knows the same longest call', () => {
  const clips = [...Array.from({ length: 400 }, (_, i) => i + 1), 1875, 3747, 20_000];
  const script = [
    'import json, sys',
    'from live_avatar import audio, span',
    'print(json.dumps([span.MAX_CALL_CLIPS, *(audio.clips_of(n) for n in json.loads(sys.argv[1]))]))',
  ];
  const args = ['-c', script.join('\n'), JSON.stringify(clips.map(modelAudioSamples))];
  const { stdout, stderr } = spawnSync(PYTHON, args, {
    env: { PATH: process.env.PATH, PYTHONPATH: RUNNERS, PYTHONDONTWRITEBYTECODE: '1' },
  });
  assert.equal(String(stderr), '');
  assert.deepEqual(JSON.parse(String(stdout)), [MAX_CLIPS_PER_CALL, ...clips]);
});

test('it says what it is and what it can do before anything is loaded', async (t) => {
  const { runner } = await startRig(t, await makeInputs(t));
  const { protocol, capabilities, versions } = runner.hello;
  assert.equal(runner.hello.runner, 'live-avatar');
  assert.deepEqual({ protocol, capabilities }, { protocol: 2, capabilities: { setEnd: true, continues: true } });
  assert.match(versions.python ?? '', /^3\.\d+\.\d+/);
  assert.deepEqual([versions.dtype, versions.compiled], ['bf16', 'false']);
});

test('loading reports its phases in order, and loading again does nothing', async (t) => {
  const rig = await loadedRig(t, await makeInputs(t));
  const phases = rig.arrived.flatMap(({ message }) => (message.type === 'loading' ? [message] : []));
  assert.deepEqual(
    phases.map(({ phase }) => phase),
    [
      ...['checking weights', 'importing', 'text encoder', 'video encoder', 'transformer'],
      ...['audio encoder', 'adapter', 'streaming decoder'],
    ],
  );
  const fractions = phases.map(({ fraction }) => fraction);
  assert.deepEqual(
    fractions,
    [...fractions].sort((a, b) => a - b),
  );
  await rig.send({ type: 'load' });
  await rig.when('loaded', (message) => message !== undefined && rig.arrived.filter(isLoaded).length === 2);
  assert.equal(rig.arrived.filter(({ message }) => message.type === 'loading').length, phases.length);
});

test('a model call of n clips gives 48n-3 frames in blocks of 12, clip by clip', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  const ended = await rig.render(inputs.request);
  assert.deepEqual(ended, { type: 'spanEnded', leaseId: 'lease-1', reason: 'completed', end: 3 });
  const blocks = messagesOf(rig, 'frames', 'lease-1');
  assert.deepEqual(
    blocks.map(({ count }) => count),
    [9, ...new Array(11).fill(12)],
  );
  let expected = 0;
  for (const { produced, count } of blocks) {
    assert.equal(produced, expected);
    expected += count;
  }
  assert.equal(expected, 3 * 48 - 3);
  assert.equal(new Set(rig.framesOf('lease-1')).size > 1, true);
  const order = rig.arrived.map(({ message }) => message.type).filter((type) => type !== 'progress');
  const clip = [...new Array(4).fill('frames'), 'clip'];
  assert.deepEqual(order.slice(order.indexOf('spanStarted')), ['spanStarted', ...clip, ...clip, ...clip, 'spanEnded']);
  assert.deepEqual(
    messagesOf(rig, 'clip', 'lease-1').map(({ clip }) => clip),
    [0, 1, 2],
  );
  assert.ok(messagesOf(rig, 'clip', 'lease-1').every(({ hostBytes }) => hostBytes > 1 << 20));
  const peaks = messagesOf(rig, 'clip', 'lease-1').map(({ peakMemoryBytes }) => peakMemoryBytes);
  const needed = WEIGHT_BYTES + CACHE_BYTES + CONTEXT_BYTES;
  assert.ok(
    peaks.every((peak) => peak > needed && peak < needed + 2 ** 31),
    `${peaks}`,
  );
  const reserved = messagesOf(rig, 'clip', 'lease-1').map((message) => message.reservedMemoryBytes ?? 0);
  assert.deepEqual(
    reserved,
    peaks.map((peak) => peak + RESERVE_BYTES),
    'what its allocator took is told beside what it needed',
  );
});

test('three steps give as many frames as four', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.render(lease(inputs, 'three', { sampleSteps: 3, end: 1 }));
  assert.equal(rig.framesOf('three').length, 45);
  assert.equal(messagesOf(rig, 'progress', 'three').length, 12);
});

test('a span can be cut short and extended while it runs', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  // Nothing is read meanwhile, so the model stands still within two blocks of what was read.
  rig.pause(true);
  await rig.send({ type: 'render', request: lease(inputs, 'short', { end: 10 }) });
  await rig.when('spanStarted');
  await rig.send({ type: 'setEnd', leaseId: 'short', end: 4 });
  rig.pause(false);
  const short = await rig.when('spanEnded');
  assert.deepEqual([short.reason, short.end], ['stopped', 4]);
  assert.equal(rig.framesOf('short').length, 4 * 48 - 3);

  rig.pause(true);
  await rig.send({ type: 'render', request: lease(inputs, 'long', { end: 2 }) });
  await rig.when('spanStarted', ({ leaseId }) => leaseId === 'long');
  await rig.send({ type: 'setEnd', leaseId: 'long', end: 99 });
  rig.pause(false);
  const long = await rig.when('spanEnded', ({ leaseId }) => leaseId === 'long');
  assert.deepEqual([long.reason, long.end], ['completed', 12]);
  assert.equal(rig.framesOf('long').length, 12 * 48 - 3);
});

test('an end that has passed stops the span after the clip in hand', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.send({ type: 'render', request: lease(inputs, 'passed', { end: 12 }) });
  await rig.when('clip', ({ clip }) => clip === 1);
  await rig.send({ type: 'setEnd', leaseId: 'passed', end: 1 });
  const { reason, end } = await rig.when('spanEnded');
  assert.equal(reason, 'stopped');
  assert.equal(end, messagesOf(rig, 'clip', 'passed').length);
  assert.equal(rig.framesOf('passed').length, end * 48 - 3);
});

test('a cancelled span ends at once, and the next one is whole', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.send({ type: 'render', request: lease(inputs, 'dropped', { end: 12 }) });
  await rig.when('frames');
  await rig.send({ type: 'cancel', leaseId: 'dropped' });
  const { reason } = await rig.when('spanEnded');
  assert.equal(reason, 'cancelled');
  const before = rig.arrived.length;
  const next = await rig.render(lease(inputs, 'next', { end: 1 }));
  assert.equal(next.reason, 'completed');
  assert.equal(rig.framesOf('next').length, 45);
  assert.ok(rig.arrived.slice(before).every(({ message }) => !('leaseId' in message) || message.leaseId === 'next'));
});

test('consecutive leases go on in one model call and give the frames of one span', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.render(lease(inputs, 'whole', { end: 4 }));
  await rig.render(lease(inputs, 'a', { end: 2 }));
  await rig.render(lease(inputs, 'b', { start: 2, end: 3, preRoll: 1, anchored: true, continues: 'a' }));
  await rig.render(lease(inputs, 'c', { start: 3, end: 4, preRoll: 1, anchored: true, continues: 'b' }));
  for (const id of ['b', 'c']) assert.deepEqual(messagesOf(rig, 'spanStarted', id)[0]?.continued, true);
  assert.deepEqual(messagesOf(rig, 'frames', 'b')[0], { type: 'frames', leaseId: 'b', produced: 0, count: 12 });
  assert.equal(rig.framesOf('b').length, 48);
  assert.deepEqual([...rig.framesOf('a'), ...rig.framesOf('b'), ...rig.framesOf('c')], rig.framesOf('whole'));
});

const otherWork: readonly (readonly [string, Partial<SpanRequest>])[] = [
  ['another seed', { baseSeed: 421 }],
  ['another prompt', { prompt: 'a man talks' }],
  ['another number of steps', { sampleSteps: 3 }],
  ['a clip further on', { start: 3, end: 4 }],
  ['a lease that this runner did not have last', { continues: 'z' }],
  ['no lease to continue', { continues: null }],
];

for (const [what, changes] of otherWork) {
  test(`with ${what} a model call begins anew, with its pre-roll`, async (t) => {
    const inputs = await makeInputs(t);
    const rig = await loadedRig(t, inputs);
    await rig.render(lease(inputs, 'a', { end: 2 }));
    await rig.render(lease(inputs, 'b', { start: 2, end: 3, preRoll: 1, continues: 'a', ...changes }));
    assert.equal(messagesOf(rig, 'spanStarted', 'b')[0]?.continued, false);
    assert.equal(rig.framesOf('b').length, 2 * 48 - 3);
  });
}

test('a clip looks the same whoever renders it: its randomness comes from the job and the clip', async (t) => {
  const inputs = await makeInputs(t);
  const [one, other] = await Promise.all([loadedRig(t, inputs), loadedRig(t, inputs, ['--dtype', 'fp8'])]);
  await one.render(lease(inputs, 'before', { end: 1, baseSeed: 7 }));
  await one.render(lease(inputs, 'here', { start: 5, end: 7, preRoll: 1 }));
  await other.render(lease(inputs, 'there', { start: 5, end: 7, preRoll: 1 }));
  assert.deepEqual(one.framesOf('here'), other.framesOf('there'));
  await other.render(lease(inputs, 'seed', { start: 5, end: 7, preRoll: 1, baseSeed: 421 }));
  assert.notDeepEqual(other.framesOf('seed'), other.framesOf('there'));
});

test('the model can be unloaded and loaded again, also out of an open call', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.render(lease(inputs, 'a', { end: 1 }));
  assert.equal((await rig.when('loaded')).memoryBytes, WEIGHT_BYTES);
  await rig.send({ type: 'unload' });
  assert.deepEqual(await rig.when('unloaded'), { type: 'unloaded', memoryBytes: 0 });
  await rig.send({ type: 'render', request: lease(inputs, 'early', { end: 1 }) });
  const refused = await rig.when('error');
  assert.deepEqual([refused.leaseId, refused.class], ['early', 'environment']);
  await rig.send({ type: 'load' });
  const ended = await rig.render(lease(inputs, 'b', { start: 1, end: 2, preRoll: 1, continues: 'a' }));
  assert.equal(ended.reason, 'completed');
  assert.equal(messagesOf(rig, 'spanStarted', 'b')[0]?.continued, false);
});

test('what a model leaves behind when it is unloaded is told', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.render(lease(inputs, 'a', { end: 1, prompt: 'leak' }));
  await rig.send({ type: 'unload' });
  assert.equal((await rig.when('unloaded')).memoryBytes, WEIGHT_BYTES);
});

for (const [prompt, outcome] of [
  ['a woman talks', 'given_back'],
  ['leak', 'ended'],
] as const) {
  test(`an agent that unloads it after "${prompt}" finds the memory ${outcome}, and loads it again`, async (t) => {
    const inputs = await makeInputs(t);
    const { command, args, env, socketDir, helloTimeoutMs } = startOptions(inputs);
    const slot = { profile: 'own', gpus: [], memoryBytes: 0, maxUnits: 0, declaredSecondsPerClip: 0, warmUpSeconds: 0 };
    const traits = { runnerKind: 'live-avatar', dtype: 'bf16', compiled: false, tpp: false, hostMemoryBytes: 0 };
    const ended = new Map<string, () => void>();
    const pids: number[] = [];
    const host = new RunnerHost({
      profile: {
        runner: { command, args, env },
        capabilities: { setEnd: true, continues: true },
        ...{ helloMillis: helloTimeoutMs, loadSilenceMillis: 60_000, unloadIdleMillis: null },
        slot: { ...slot, ...traits },
      },
      ...{
        gate: new LoadGate([]),
        socketDir,
        clock: systemClock,
        log: createLogger({ name: 'test', level: 'silent' }),
      },
      onMessage: async (message) => {
        if (message.type === 'spanEnded') ended.get(message.leaseId)?.();
      },
      onLoaded: ({ pid }) => pids.push(pid),
      onGone: (message) => t.diagnostic(message),
      gpuBytes: async () => null,
    });
    t.after(() => host.close(10_000));
    const render = (leaseId: string) => {
      const over = new Promise<void>((resolve) => ended.set(leaseId, resolve));
      host.send({ type: 'render', request: lease(inputs, leaseId, { end: 1, prompt }) });
      return over;
    };
    assert.equal(await host.ready(), null);
    await render('a');
    // Out of the open call.
    assert.equal(await host.unload('the test wants it'), outcome);
    assert.equal(host.loaded, false);
    assert.equal(await host.ready(), null);
    await render('b');
    assert.equal(pids.length, 2);
    assert.equal(
      pids[0] === pids[1],
      outcome === 'given_back',
      'the process goes on only where it gave the memory back',
    );
  });
}

test('out of memory comes with its numbers, and the runner goes on', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  await rig.send({ type: 'render', request: lease(inputs, 'big', { prompt: 'fault:memory' }) });
  const error = await rig.when('error');
  assert.deepEqual([error.class, error.leaseId], ['out_of_memory', 'big']);
  assert.match(error.message, /Tried to allocate 2\.50 GiB\. GPU 0 has 79\.10 GiB in total\.$/);
  const { freeBytes = 0, allocatedBytes = 0, ...numbers } = error.numbers ?? {};
  const totalBytes = 80 * 2 ** 30;
  assert.deepEqual(numbers, { neededBytes: 2.5 * 2 ** 30, clip: 1, totalBytes, reservedBytes: allocatedBytes });
  assert.equal(freeBytes, totalBytes - CONTEXT_BYTES - allocatedBytes);
  assert.equal((await rig.render(lease(inputs, 'small', { end: 1 }))).reason, 'completed');
});

for (const [what, prompt] of [
  ['a failure', 'fault:memory'],
  ['a cancel', 'a woman talks'],
] as const) {
  test(`what a model call had is given back after ${what}`, async (t) => {
    const inputs = await makeInputs(t);
    const rig = await loadedRig(t, inputs);
    const peakOf = async (leaseId: string): Promise<number> => {
      await rig.render(lease(inputs, leaseId, { end: 1 }));
      return messagesOf(rig, 'clip', leaseId)[0]?.peakMemoryBytes ?? 0;
    };
    await peakOf('cold');
    const usual = await peakOf('usual');
    await rig.send({ type: 'render', request: lease(inputs, 'ends', { prompt, end: 12 }) });
    if (what === 'a cancel') {
      await rig.when('clip', ({ leaseId }) => leaseId === 'ends');
      await rig.send({ type: 'cancel', leaseId: 'ends' });
      await rig.when('spanEnded', ({ leaseId }) => leaseId === 'ends');
    } else await rig.when('error');
    // The next call's peak would hold what the one before had left.
    assert.ok(Math.abs((await peakOf('next')) - usual) < CACHE_BYTES / 2);
    await rig.send({ type: 'unload' });
    assert.equal((await rig.when('unloaded')).memoryBytes, 0);
  });
}

test('after a broken device, or a failure that nobody knows, every span is refused with the reason', async (t) => {
  for (const [fault, errorClass] of [
    ['device', 'device'],
    ['surprise', 'crash'],
  ] as const) {
    const inputs = await makeInputs(t);
    const rig = await loadedRig(t, inputs);
    await rig.send({ type: 'render', request: lease(inputs, 'first', { prompt: `fault:${fault}` }) });
    const error = await rig.when('error');
    assert.equal(error.class, errorClass);
    await rig.send({ type: 'render', request: lease(inputs, 'second') });
    const again = await rig.when('error', ({ leaseId }) => leaseId === 'second');
    assert.deepEqual([again.class, again.message], [errorClass, error.message]);
  }
});

const badInputs: readonly (readonly [string, (inputs: Inputs) => Promise<Partial<SpanRequest>>, RegExp])[] = [
  ['a picture of another size', withFile('referencePath', png(128, 64)), /128x64; 64x64 is accepted/],
  ['a picture that is none', withFile('referencePath', Buffer.from('GIF89a')), /can't be read/],
  ['audio that is too short', withFile('audioPath', wav(2)), /lasts for 2 clips; the job has 12/],
  ['audio that is none', withFile('audioPath', Buffer.from('MThd')), /audio can't be read/],
  ['a size that the model does not make', async () => ({ width: 96 }), /96x64; multiples of 64/],
  ['a picture beyond the model', async () => ({ width: 1280, height: 704 }), /at most 286720 pixels/],
  ['a span longer than a model call', async () => ({ end: 5000, clips: 5000 }), /5000 clips .* holds 3747/],
  ['a span without clips', async () => ({ end: 0 }), /no span/],
];

function withFile(name: 'referencePath' | 'audioPath', bytes: Buffer) {
  return async ({ directory }: Inputs): Promise<Partial<SpanRequest>> => {
    const path = join(directory, `bad-${name}`);
    await writeFile(path, bytes);
    return { [name]: path };
  };
}

for (const [what, change, message] of badInputs) {
  test(`${what} is bad input, found before anything is rendered`, async (t) => {
    const inputs = await makeInputs(t);
    const rig = await loadedRig(t, inputs);
    await rig.send({ type: 'render', request: lease(inputs, 'bad', await change(inputs)) });
    const error = await rig.when('error');
    assert.deepEqual([error.leaseId, error.class], ['bad', 'bad_input']);
    assert.match(error.message, message);
    assert.equal(rig.framesOf('bad').length, 0);
    assert.equal((await rig.render(lease(inputs, 'good', { end: 1 }))).reason, 'completed');
  });
}

test('missing and cut weights are named before anything is loaded', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await startRig(t, inputs);
  await unlink(join(inputs.checkpoint, 'Wan2.1_VAE.pth'));
  await rig.send({ type: 'load' });
  const missing = await rig.when('error');
  assert.deepEqual([missing.class, missing.leaseId, missing.numbers?.missing], ['environment', undefined, 1]);
  assert.match(missing.message, /Wan2\.1_VAE\.pth/);
  await writeFile(join(inputs.checkpoint, 'Wan2.1_VAE.pth'), '');
  await writeFile(join(inputs.directory, 'lora.safetensors'), Buffer.alloc(4));
  await rig.send({ type: 'load' });
  const cut = await rig.when('error', ({ message }) => message.includes('lora'));
  assert.match(cut.message, /cut off/);
});

test('a second span is refused while one runs', async (t) => {
  const inputs = await makeInputs(t);
  const rig = await loadedRig(t, inputs);
  rig.pause(true);
  await rig.send({ type: 'render', request: lease(inputs, 'one', { end: 2 }) });
  await rig.send({ type: 'render', request: lease(inputs, 'two', { end: 2 }) });
  rig.pause(false);
  const error = await rig.when('error');
  assert.deepEqual([error.leaseId, error.class], ['two', 'bad_input']);
  assert.equal((await rig.when('spanEnded')).leaseId, 'one');
});

const moments: readonly (readonly [string, (rig: Rig, inputs: Inputs) => Promise<void>])[] = [
  ['before anything', async () => {}],
  [
    'in the middle of a clip',
    async (rig, inputs) => {
      await rig.send({ type: 'render', request: lease(inputs, 'lost', { end: 12 }) });
      await rig.when('frames');
    },
  ],
  [
    'while it waits for the agent to read',
    async (rig, inputs) => {
      rig.pause(true);
      await rig.send({ type: 'render', request: lease(inputs, 'lost', { end: 12 }) });
      await rig.when('spanStarted');
      rig.pause(false);
    },
  ],
  [
    'with a call held open',
    async (rig, inputs) => {
      await rig.render(lease(inputs, 'held', { end: 1 }));
    },
  ],
];

for (const [when, before] of moments) {
  test(`it leaves when it is told to, ${when}`, async (t) => {
    const inputs = await makeInputs(t);
    const rig = await loadedRig(t, inputs);
    await before(rig, inputs);
    const exit = await rig.runner.close(60_000);
    assert.deepEqual([exit.code, exit.signal, exit.fault], [0, null, null]);
  });
}

for (const [when, end] of [
  ['in the middle of a span', 12],
  ['with a call held open', 2],
] as const) {
  test(`it ends by itself when its agent is killed, ${when}`, async (t) => {
    const inputs = await makeInputs(t);
    const parent = fileURLToPath(new URL('./testdata/parent.ts', import.meta.url));
    const given = JSON.stringify({ ...inputs, request: lease(inputs, 'lost', { end }) });
    const agent = spawn(process.execPath, [parent, given], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => agent.kill('SIGKILL'));
    const [line] = await once(agent.stdout, 'data');
    const runner = Number.parseInt(String(line), 10);
    t.after(() => isRunning(runner) && process.kill(runner, 'SIGKILL'));
    assert.ok(isRunning(runner));
    agent.kill('SIGKILL');
    await ended(runner);
  });
}

function isLoaded({ message }: { readonly message: FromRunner }): boolean {
  return message.type === 'loaded';
}
