import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { makeInputs, type Rig, startRig } from './testdata/rig.ts';

/** Numbers from `first` on. */
const run = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i);

interface Outcome {
  readonly reason?: string;
  readonly end?: number;
  readonly class?: string;
  readonly message?: string;
  readonly numbers?: Readonly<Record<string, number>> | undefined;
}

/** How the span of a rig ended. */
function ended(rig: Rig): Promise<Outcome> {
  return Promise.race([rig.next('spanEnded'), rig.next('error')]);
}

const failures: readonly (readonly [fault: string, errorClass: string, message: RegExp])[] = [
  ['truncated', 'crash', /has 121 frames; 141 were expected; upstream: save_video failed, error: .*Broken pipe/],
  ['nofile', 'environment', /could not write its video: .*FileNotFoundError: video file/],
  ['oom', 'out_of_memory', /CUDA out of memory.*\(while denoising, 3 clips\)/],
  ['argparse', 'environment', /refused its command line.*unrecognized arguments: --fp8/],
  ['weights', 'environment', /Wan2\.1_VAE\.pth.*\(while loading/],
];

describe("the runner of upstream's command line", { concurrency: 2 }, () => {
  test('a span with pre-roll is one run of the script, whose frames arrive in order, clip by clip', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs);
    const { hello } = rig.runner;
    assert.deepEqual(hello.capabilities, { setEnd: false, continues: false });
    assert.deepEqual([hello.versions.torch, hello.versions.upstream], ['2.8.0', 'a'.repeat(40)]);
    await rig.send({ type: 'render', request: { ...inputs.request, start: 2, end: 4, preRoll: 1 } });
    assert.deepEqual(await ended(rig), { type: 'spanEnded', leaseId: 'lease-1', reason: 'completed', end: 4 });

    // Three clips from clip 1 on, less the three frames that every call loses.
    assert.deepEqual(
      rig.frames.map((frame) => frame.produced),
      run(0, 141),
    );
    assert.deepEqual(
      rig.frames.map((frame) => frame.number),
      run(48 + 3, 141),
    );
    for (const { colour } of rig.frames) {
      assert.ok(
        colour.every((value, i) => Math.abs(value - ([200, 60, 40][i] ?? 0)) <= 4),
        `colour ${colour}`,
      );
    }
    const types = rig.messages
      .map((message) => message.type)
      .filter((type) => type !== 'progress' && type !== 'loading');
    const clip = ['frames', 'frames', 'frames', 'frames', 'clip'];
    assert.deepEqual(types, ['loaded', 'spanStarted', ...clip, ...clip, ...clip, 'spanEnded']);
    const clips = rig.messages.flatMap((message) => (message.type === 'clip' ? [message] : []));
    assert.deepEqual(
      clips.map((message) => message.clip),
      [1, 2, 3],
    );
    assert.ok(clips.every((message) => message.renderSeconds > 0 && message.hostBytes > 0));
    assert.ok(
      clips.every((message) => message.peakMemoryBytes === 2 ** 31),
      'what came to be in use on the most loaded GPU',
    );

    const [started] = await inputs.starts();
    assert.equal(started?.env?.WORLD_SIZE, '1');
    assert.ok(started?.args.includes('--num_clip=3') && started.args.includes('--base_seed=1'));
    assert.deepEqual(await readdir(inputs.workDir), [], 'nothing is left in the work folder');
    // Everything that it printed has been read by then.
    await rig.runner.close(60_000);
    const basis = /^lease lease-1: nvidia-smi lists none .* that of the whole card, less 2\.0 GiB in use before$/;
    assert.equal(rig.printed.filter((line) => basis.test(line)).length, 1, rig.printed.join('\n'));
  });

  test('the first span of a job lacks three frames', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs);
    await rig.send({ type: 'render', request: { ...inputs.request, end: 1 } });
    assert.equal((await ended(rig)).end, 1);
    assert.deepEqual(
      rig.frames.map((frame) => frame.number),
      run(3, 45),
    );
  });

  test('the last clip of the job is whole although its audio ends early', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs);
    await rig.send({ type: 'render', request: { ...inputs.request, start: 3, end: 5, preRoll: 1 } });
    assert.equal((await ended(rig)).end, 5);
    assert.deepEqual(
      rig.frames.map((frame) => frame.number),
      run(2 * 48 + 3, 141),
    );
  });

  test('an end that was moved while the script ran is obeyed when its frames are handed over', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'held' });
    await rig.send({ type: 'render', request: { ...inputs.request, end: 3 } });
    await inputs.expectProcesses(1);
    await rig.send({ type: 'setEnd', leaseId: 'lease-1', end: 1 });
    await inputs.letGo();
    assert.deepEqual(await ended(rig), { type: 'spanEnded', leaseId: 'lease-1', reason: 'stopped', end: 1 });
    assert.equal(rig.frames.length, 45);
  });

  test('five ranks render a span, the fifth saves it', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { args: ['--tpp'] });
    await rig.send({ type: 'render', request: { ...inputs.request, end: 1 } });
    assert.equal((await ended(rig)).reason, 'completed');
    assert.deepEqual(
      rig.frames.map((frame) => frame.number),
      run(3, 45),
    );
    const starts = await inputs.starts();
    assert.deepEqual(starts.map((start) => start.rank).sort(), run(0, 5));
    assert.equal(new Set(starts.map((start) => start.env?.MASTER_PORT)).size, 1);
    assert.ok(starts.every((start) => start.args.includes('--enable_vae_parallel')));
  });

  test('when one rank fails the others are ended, and its words are the evidence', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { args: ['--tpp'], fault: 'rank' });
    await rig.send({ type: 'render', request: inputs.request });
    const error = await ended(rig);
    assert.equal(error.class, 'device');
    assert.match(error.message ?? '', /NCCL error in: ProcessGroupNCCL/);
    await inputs.expectNoProcess();
  });

  for (const [fault, errorClass, message] of failures) {
    test(`upstream's failure "${fault}" is reported as ${errorClass}`, async (t) => {
      const inputs = await makeInputs(t);
      const rig = await startRig(t, inputs, { fault });
      await rig.send({ type: 'render', request: inputs.request });
      const error = await ended(rig);
      assert.equal(error.class, errorClass, error.message);
      assert.match(error.message ?? '', message);
      if (fault === 'oom') {
        const gib = 2 ** 30;
        assert.deepEqual(error.numbers, { neededBytes: 2.5 * gib, totalBytes: Math.round(79.1 * gib), freeBytes: gib });
      }
      assert.deepEqual(rig.frames, []);
      assert.deepEqual(await readdir(inputs.workDir), []);
    });
  }

  test('a video without sound is used: the farm adds the audio itself', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'silent' });
    await rig.send({ type: 'render', request: { ...inputs.request, end: 1 } });
    assert.equal((await ended(rig)).reason, 'completed');
    assert.equal(rig.frames.length, 45);
  });

  test('a port that another process took is replaced', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'port' });
    await rig.send({ type: 'render', request: { ...inputs.request, end: 1 } });
    assert.equal((await ended(rig)).reason, 'completed');
    const ports = (await inputs.starts()).map((start) => start.env?.MASTER_PORT);
    assert.equal(ports.length, 2);
  });

  test('a prompt reaches the script unchanged, and what it says is taken for nothing else', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'weights' });
    const prompt =
      '--fp8 "quoted" \'single\' $(id) 北京 👩🏽‍🚀 e\u0301\nCUDA out of memory. Tried to allocate 1 GiB\r\ncomplete full-sequence generation';
    await rig.send({ type: 'render', request: { ...inputs.request, prompt } });
    assert.equal((await ended(rig)).class, 'environment');
    const [started] = await inputs.starts();
    assert.ok(started?.args.includes(`--prompt=${prompt}`));
  });

  test('a cancel kills everything that was started, at once', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'hang' });
    await rig.send({ type: 'render', request: inputs.request });
    await inputs.expectProcesses(2);
    await rig.send({ type: 'cancel', leaseId: 'lease-1' });
    assert.deepEqual(await ended(rig), { type: 'spanEnded', leaseId: 'lease-1', reason: 'cancelled', end: 0 });
    await inputs.expectNoProcess();
    assert.deepEqual(await readdir(inputs.workDir), []);
  });

  test('a runner that is killed leaves no process behind, and the next one clears up after it', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'hang' });
    await rig.send({ type: 'render', request: inputs.request });
    await inputs.expectProcesses(2);
    rig.runner.kill();
    await rig.runner.exited;
    await inputs.expectNoProcess();
    assert.equal((await readdir(inputs.workDir)).length, 1);
    const next = await startRig(t, inputs, {});
    await next.send({ type: 'render', request: { ...inputs.request, end: 1 } });
    assert.equal((await ended(next)).reason, 'completed');
    assert.deepEqual(await readdir(inputs.workDir), []);
  });

  test('silence for longer than a phase may take is a hang', async (t) => {
    const inputs = await makeInputs(t);
    // From its first moment on: however slow the machine is, the silence is that of the start.
    const rig = await startRig(t, inputs, { fault: 'mute', args: ['--patience', '0.002'] });
    await rig.send({ type: 'render', request: inputs.request });
    const error = await ended(rig);
    assert.equal(error.class, 'hang');
    assert.match(error.message ?? '', /no sign of life for \d+ s while starting/);
    await inputs.expectNoProcess();
  });

  test('progress grows while the script runs, and never passes a clip before its frames are there', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { fault: 'hang' });
    await rig.send({ type: 'render', request: inputs.request });
    const seen = [await rig.next('progress'), await rig.next('progress')].map(({ clip, fraction }) => clip + fraction);
    assert.ok((seen[1] ?? 0) >= (seen[0] ?? 0) && (seen[1] ?? 9) < 3, String(seen));
  });

  test('a host that lacks something is told so before any lease', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { args: ['--ckpt-dir', '/nowhere'], load: false });
    await rig.send({ type: 'load' });
    const error = await rig.next('error');
    assert.equal(error.class, 'environment');
    assert.match(
      error.message,
      /^--ckpt-dir: \/nowhere\/config\.json does not exist; accepted: the folder of Wan2\.2-S2V-14B/,
    );
  });

  test('a slot with the wrong number of GPUs is refused before any lease', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs, { args: ['--tpp'], devices: '0,1', load: false });
    await rig.send({ type: 'load' });
    const error = await rig.next('error');
    assert.equal(error.class, 'environment');
    assert.match(error.message, /CUDA_VISIBLE_DEVICES names 2 GPUs; .* takes 5/);
  });

  test('a picture that upstream would crash on is refused without starting anything', async (t) => {
    const inputs = await makeInputs(t);
    const rig = await startRig(t, inputs);
    await rig.send({ type: 'render', request: { ...inputs.request, width: 832, height: 448 } });
    const error = await ended(rig);
    assert.equal(error.class, 'bad_input');
    assert.match(error.message ?? '', /832x448, 91 units/);
    await assert.rejects(readFile(inputs.log), { code: 'ENOENT' });
  });
});
