import assert from 'node:assert/strict';
import { readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { Anchor, JobState } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { NodeState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { runCli } from './program.ts';
import { completed, startFakeFarm } from './testing/fake-farm.ts';
import { fit, job, node, plan } from './testing/farm-fixtures.ts';
import { writeSample } from './testing/media-files.ts';
import { cli, files } from './testing/run-cli.ts';
import { CapturedStream, testShell } from './testing/test-shell.ts';

const jsonLines = (text: string): { job: { state: string; jobId: string } }[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('submit sends both inputs once, prints the job on stdout and everything else on stderr', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  const first = await cli(farm, 'submit', '--image', image, '--audio', audio, '--prompt', 'hello', '--priority', '7');
  assert.equal(first.code, 0, first.err);
  assert.equal(first.out, 'job-1\n');
  assert.match(first.err, /uploaded .*me\.png[\s\S]*uploaded .*talk\.wav[\s\S]*accepted job job-1/);
  assert.deepEqual([...farm.state.inputs.values()].map((content) => content.length).sort(), [300_044, 64].sort());
  const second = await cli(farm, 'submit', '--image', image, '--audio', audio);
  assert.doesNotMatch(second.err, /uploaded/);
  const [request, other] = farm.state.submitted;
  assert.equal(request?.spec?.name, 'talk');
  assert.equal(request?.spec?.prompt, 'hello');
  assert.equal(request?.spec?.priority, 7);
  assert.notEqual(request?.idempotencyKey, '');
  assert.notEqual(request?.idempotencyKey, other?.idempotencyKey);
});

test("upstream's flags are taken with underscores or dashes, bare or with a value", async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio, dir } = files(t);
  const promptFile = writeSample(dir, 'prompt.txt', 'from a file\n');
  const { code, err } = await cli(
    farm,
    ...['submit', '--image', image, '--audio', audio, '--prompt-file', promptFile],
    ...['--size', '704*384', '--num-clip', '12', '--sample_steps=3', '--infer-frames', '48', '--base_seed', '420'],
    ...['--sample_guide_scale', '0', '--enable_online_decode', '--sample_solver', 'euler', '--anchor', 'image'],
    ...['--task', 's2v-14B', '--offload-model', 'True', '--fp8', '--load_lora'],
  );
  assert.equal(code, 0, err);
  const spec = farm.state.submitted[0]?.spec;
  assert.equal(spec?.prompt, 'from a file');
  assert.deepEqual(spec?.settings, {
    preset: '',
    size: '704*384',
    numClip: 12,
    sampleSteps: 3,
    inferFrames: 48,
    baseSeed: 420,
    sampleGuideScale: 0,
    enableOnlineDecode: true,
    sampleSolver: 'euler',
    anchor: Anchor.ANCHOR_IMAGE,
  });
  for (const flag of ['task', 'offload_model', 'fp8', 'load_lora']) {
    assert.match(err, new RegExp(`note: --${flag} is ignored: `));
  }
});

test('a negative base_seed means that the coordinator draws one, and says so', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  const { code, err } = await cli(farm, 'submit', '--image', image, '--audio', audio, '--base_seed', '-1');
  assert.equal(code, 0);
  assert.equal(farm.state.submitted[0]?.spec?.settings?.baseSeed, undefined);
  assert.match(err, /note: base_seed -1 means that a seed is drawn/);
});

test('bad input is refused with exit code 2 before anything is sent', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio, dir } = files(t);
  const existing = writeSample(dir, 'out.mp4', 'mine');
  const latin1 = writeSample(dir, 'latin1.txt', Buffer.from('caf\xe9', 'latin1'));
  const zero = writeSample(dir, 'zero.txt', 'ab\0c\n');
  const cases: [argv: string[], message: RegExp][] = [
    [[], /error: image is not given; accepted: .*\ntry: Add --image FILE/],
    [['--image', image], /error: audio is not given/],
    [['--image', image, '--audio', image], /error: audio: .* is an image file \(PNG\); accepted: .*\ntry: /],
    [['--image', join(dir, 'no.png'), '--audio', audio], /error: image: .* does not exist; accepted: /],
    [['--image', image, '--audio', audio, '--sample_steps', '5'], /error: sample_steps is 5; accepted: 1, 2, 3 and 4/],
    [
      ['--image', image, '--audio', audio, '--sample_steps', 'x'],
      /error: sample_steps is "x"; accepted: a whole number/,
    ],
    [['--image', image, '--audio', audio, '--size', '99*99'], /error: size is "99\*99"; accepted: .*384\*256/],
    [['--image', image, '--audio', audio, '--preset', 'best'], /error: preset is "best"; accepted: preview, social/],
    [['--image', image, '--audio', audio, '--preset', ''], /error: preset is ""; accepted: preview, social/],
    [['--image', image, '--audio', audio, '--name', ''], /error: name is ""; accepted: one line of 1 to 200/],
    [['--image', image, '--audio', audio, '--owner', ''], /error: owner is ""; accepted: one line of 1 to 100/],
    [['--image', image, '--audio', audio, '--output', ''], /error: output: "" names no file; accepted: /],
    [['--image', image, '--audio', audio, '--output', existing], /error: output: .* exists; .*\ntry: .*--force/],
    [['--image', image, '--audio', audio, '--force'], /error: force has no effect without --output/],
    [
      ['--image', image, '--audio', audio, '--enable_tts'],
      /error: --enable_tts is not accepted: .*\ntry: Leave --enable_tts out/,
    ],
    [['--image', image, '--audio', audio, '--num_clip', '3', '--num-clip', '4'], /error: num_clip is given twice/],
    [['--image', image, '--audio', audio, '--prompt', 'x'.repeat(4001)], /error: prompt has 4001 characters; accepted/],
    [
      ['--image', image, '--audio', audio, '--prompt_file', latin1],
      /prompt_file: ".*latin1.txt" is not in UTF-8; accepted/,
    ],
    [
      ['--image', image, '--audio', audio, '--prompt_file', 'nothere'],
      /error: prompt_file: "nothere" does not exist; accepted: .*\ntry: Correct --prompt_file\./,
    ],
    [['--image', image, '--audio', audio, '--prompt_file', '.'], /error: prompt_file: "\." is a directory; accepted/],
    [['--image', image, '--audio', audio, '--prompt_file', zero], /error: prompt_file has a zero byte at character 3;/],
    [['--image', image, '--audio', audio, '--prompt', 'a', '--prompt_file', 'b'], /error: prompt is given twice/],
    [['--image', image, '--audio', audio, '--deadline', 'soon'], /error: deadline is "soon"; accepted: /],
    [['--image', image, '--audio', audio, '--name', 'a\nb'], /error: name is "a\\nb"; accepted: one line/],
    [
      ['--image', image, '--audio', audio, '--imge', 'x'],
      /error: unknown option '--imge'[\s\S]*try: clipfarm submit --help/,
    ],
    [['--image', image, '--audio', audio, '-o', 'xml'], /error: format is "xml"; accepted: human, json/],
    [
      ['--image', image, '--audio', audio, '--color', 'maybe'],
      /error: color is "maybe"; accepted: auto, always, never/,
    ],
    [
      ['--image', image, '--audio', audio, '--base_seed', '99999999999999999999'],
      /error: base_seed is "99999999999999999999"; accepted: a whole number of -9007199254740991 to 9007199254740991/,
    ],
  ];
  for (const [argv, message] of cases) {
    const { code, out, err } = await cli(farm, 'submit', ...argv);
    assert.equal(code, 2, `${argv.join(' ')}: ${err}`);
    assert.match(err, message);
    assert.equal(out, '');
  }
  assert.equal(farm.state.inputs.size, 0);
  assert.equal(farm.state.submitted.length, 0);
  assert.equal(readFileSync(existing, 'utf8'), 'mine');
});

test('submit --output watches, downloads, checks and reports', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio, dir } = files(t);
  const output = join(dir, 'out.mp4');
  const { code, out, err } = await cli(farm, 'submit', '--image', image, '--audio', audio, '--output', output);
  assert.equal(code, 0, err);
  assert.ok(readFileSync(output).equals(farm.state.video));
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.endsWith('.part')),
    [],
  );
  assert.match(err, /rendering {2}10\/50 clips[\s\S]*completed {2}50\/50 clips[\s\S]*saved .*out\.mp4/);
  assert.match(out, /^completed {2}.*[\s\S]*Shares\n {2}fast {2}50 clips, 100%\nChecks\n {2}ok/);
});

test('a watch goes on over a restart of the coordinator', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  farm.state.watches = [[job(JobState.JOB_STATE_RENDERING, { clipsCommitted: 10 })], [completed(farm.state.video)]];
  farm.state.breakWatch = (call) => call === 0;
  const { code, err } = await cli(farm, 'submit', '--image', image, '--audio', audio, '--watch');
  assert.equal(code, 0, err);
  assert.match(err, /waiting: the coordinator shuts down; trying again/);
});

test('a submit that got no answer is asked again under the same key', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  farm.state.failSubmit = (call) => (call === 0 ? new FarmError('unavailable', 'not the leader') : undefined);
  const { code, err } = await cli(farm, 'submit', '--image', image, '--audio', audio, '--idempotency-key', 'k1');
  assert.equal(code, 0, err);
  assert.match(err, /waiting: not the leader; trying again in 1 s/);
  assert.deepEqual(
    farm.state.submitted.map(({ idempotencyKey }) => idempotencyKey),
    ['k1'],
  );
  const again = await cli(farm, 'submit', '--image', image, '--audio', audio, '--idempotency-key', 'k1');
  assert.match(again.err, /exists already under this idempotency key/);
});

test('a video never replaces what it is made of, also by another name', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio, dir } = files(t);
  const prompt = writeSample(dir, 'prompt.txt', 'hello');
  const another = join(dir, 'another.mp4');
  symlinkSync(audio, another);
  const inputs = ['--image', image, '--audio', audio, '--prompt_file', prompt];
  for (const [output, flag] of [
    [image, 'image'],
    [another, 'audio'],
    [prompt, 'prompt_file'],
  ] as const) {
    const { code, err } = await cli(farm, 'submit', ...inputs, '--output', output, '--force');
    assert.equal(code, 2, err);
    assert.match(err, new RegExp(`output: ".*" is the file of --${flag}, which the video would replace`));
  }
  assert.deepEqual(farm.state.submitted, []);
});

test('a job that ends without a video gives exit code 6, its reason and the way to go on', async (t) => {
  const farm = await startFakeFarm(t);
  const reason = 'clip 7 failed on three nodes';
  farm.state.watches = [[job(JobState.JOB_STATE_FAILED, { stateReason: reason })]];
  const { code, out, err } = await cli(farm, 'job', 'watch', 'job-1');
  assert.equal(code, 6);
  assert.match(out, /^failed[\s\S]*clip 7 failed on three nodes/);
  assert.match(err, /clipfarm job retry job-1/);
});

test('an interrupt while watching detaches, says how to come back and gives 130', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.watches = [[job(JobState.JOB_STATE_RENDERING, { clipsCommitted: 10 })]];
  farm.state.holdWatch = true;
  const stderr = new CapturedStream(true);
  const shell = testShell({ CLIPFARM_COORDINATOR: farm.address }, stderr);
  const { image, audio, dir } = files(t);
  const output = join(dir, 'a talk.mp4');
  const submit = ['submit', '--image', image, '--audio', audio, '--output', output];
  const running = runCli([...submit, '--color', 'never'], shell);
  while (!stderr.text.includes('10/50')) await new Promise((resolve) => setImmediate(resolve));
  shell.interrupt();
  assert.equal(await running, 130);
  assert.match(stderr.text, /no longer watching; the job itself goes on\. Come back with: clipfarm job watch job-1/);
  assert.match(stderr.text, /save the finished video with: clipfarm job download job-1 --output '.*a talk\.mp4'/);
});

test('-o json prints the messages of the protocol, one per line where they stream', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  farm.state.jobs = [completed(farm.state.video)];
  const submitted = await cli(farm, 'submit', '--image', image, '--audio', audio, '--watch', '-o', 'json');
  assert.deepEqual(
    jsonLines(submitted.out).map((line) => line.job.state),
    ['JOB_STATE_QUEUED', 'JOB_STATE_RENDERING', 'JOB_STATE_COMPLETED'],
  );
  const got = await cli(farm, '-o', 'json', 'job', 'get', 'job-1');
  assert.equal(JSON.parse(got.out).job.result.joins, 2);
  const nodes = await cli(farm, 'nodes', '-o', 'json');
  assert.deepEqual(
    JSON.parse(nodes.out).nodes.map(({ name }: { name: string }) => name),
    ['fast', 'slow'],
  );
  const planned = await cli(farm, 'plan', '--image', image, '--audio', audio, '-o', 'json');
  assert.equal(JSON.parse(planned.out).plan.clips, 50);
  for (const command of ['presets', 'version']) {
    assert.equal(typeof JSON.parse((await cli(farm, command, '-o', 'json')).out), 'object');
  }
});

test('plan renders nothing, and gives exit code 6 when no slot fits', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  const feasible = await cli(farm, 'plan', '--image', image, '--audio', audio);
  assert.equal(feasible.code, 0, feasible.err);
  assert.match(feasible.out, /704x384, 2400 frames[\s\S]*forecast +0:25 .*50 GPU-seconds[\s\S]*yes +fast\/gpu0/);
  farm.state.plan = {
    ...plan(50, []),
    fits: [{ ...fit('node-a'), fits: false, detail: 'needs 45 GiB' }],
    forecastSeconds: 0,
  };
  const none = await cli(farm, 'plan', '--image', image, '--audio', audio);
  assert.equal(none.code, 6);
  assert.match(none.out, /no +fast\/gpu0 .*needs 45 GiB/);
  farm.state.plan = { ...plan(50, []), fits: [{ ...fit('node-a'), unavailable: 'its node is drained' }] };
  farm.state.nodes = [{ ...node('node-a', 'fast'), state: NodeState.NODE_STATE_DRAINING, stateReason: 'new disk' }];
  const drained = await cli(farm, 'plan', '--image', image, '--audio', audio);
  assert.equal(drained.code, 6);
  assert.match(
    drained.out,
    /not now +fast\/gpu0 .*its node is drained[\s\S]*\nLet fast work again: clipfarm node undrain fast\n$/,
  );
  assert.equal(farm.state.submitted.length, 0);
});

test('jobs follows pages up to the limit and filters by state', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = Array.from({ length: 620 }, (_, index) =>
    job(index % 2 === 0 ? JobState.JOB_STATE_QUEUED : JobState.JOB_STATE_FAILED, { jobId: `j${index}` }),
  );
  const all = await cli(farm, 'jobs', '--limit', '600');
  assert.equal(all.out.trim().split('\n').length, 601);
  assert.match(all.err, /there are more/);
  const queued = await cli(farm, 'jobs', '--state', 'queued, rendering', '--limit', '1000', '-o', 'json');
  assert.equal(JSON.parse(queued.out).jobs.length, 310);
  assert.deepEqual(farm.state.listed.at(-1)?.states, ['JOB_STATE_QUEUED', 'JOB_STATE_RENDERING']);
  farm.state.jobs = [];
  assert.equal((await cli(farm, 'jobs')).out, '');
});

test('changes reach the coordinator with their arguments', async (t) => {
  const farm = await startFakeFarm(t);
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  await cli(farm, 'job', 'cancel', 'job', '--reason', 'wrong portrait');
  await cli(farm, 'job', 'pause', 'job');
  await cli(farm, 'job', 'resume', 'job');
  farm.state.jobs = [job(JobState.JOB_STATE_CANCELLED)];
  await cli(farm, 'job', 'retry', 'job');
  await cli(farm, 'job', 'priority', 'job', '-5');
  await cli(farm, 'node', 'drain', 'fast', '--reason', 'new driver');
  await cli(farm, 'node', 'undrain', 'node-a');
  assert.deepEqual(farm.state.changes, [
    { call: 'cancelJob', request: { jobId: 'job', reason: 'wrong portrait' } },
    { call: 'pauseJob', request: { jobId: 'job' } },
    { call: 'resumeJob', request: { jobId: 'job' } },
    { call: 'retryJob', request: { jobId: 'job' } },
    { call: 'setJobPriority', request: { jobId: 'job', priority: -5 } },
    { call: 'drainNode', request: { nodeId: 'fast', reason: 'new driver', knowsLeft: true } },
    { call: 'undrainNode', request: { nodeId: 'node-a', knowsLeft: true } },
  ]);
});

test('every kind of failure has its exit code', async (t) => {
  const { dir } = files(t);
  const farm = await startFakeFarm(t, writeSample(dir, 'token', 'secret'));
  const token = ['--token-file', join(dir, 'token')];
  farm.state.jobs = [job(JobState.JOB_STATE_RENDERING)];
  const codes = async (...argv: string[]) => (await cli(farm, ...argv)).code;
  assert.equal(await codes(...token, 'jobs'), 0);
  assert.equal(await codes('jobs'), 4);
  assert.equal(await codes('jobs', '--token-file', writeSample(dir, 'other', 'wrong')), 4);
  assert.equal(await codes(...token, 'job', 'get', 'nope'), 5);
  assert.equal(await codes(...token, 'job', 'watch', 'missing'), 5);
  assert.equal(await codes(...token, 'job', 'download', 'job-1', '--output', join(dir, 'x.mp4')), 7);
  assert.equal(await codes(...token, 'job', 'priority', 'job-1', '101'), 2);
  assert.equal(await codes('jobs', '--coordinator', 'nonsense'), 2);
  assert.equal(await codes('jobs', '--coordinator', '192.0.2.1:7400'), 2);
  const closed = await cli(undefined, 'jobs', '--coordinator', '127.0.0.1:1');
  assert.equal(closed.code, 3);
  assert.match(closed.err, /error: no coordinator answers at 127\.0\.0\.1:1: .*ECONNREFUSED.*\ntry: .*clipfarm up/);
});

test('help goes to stdout with code 0, its absence to stderr with code 2; every command has examples', async () => {
  const main = await cli(undefined, '--help');
  assert.equal(main.code, 0);
  assert.match(main.out, /Exit codes:\n {2}0 {4}done/);
  const none = await cli(undefined);
  assert.equal(none.code, 2);
  assert.equal(none.out, '');
  const commands = [
    'submit',
    'plan',
    'jobs',
    'nodes',
    'presets',
    'up',
    'doctor',
    'version',
    'node drain',
    'node undrain',
  ];
  for (const sub of ['get', 'watch', 'cancel', 'pause', 'resume', 'retry', 'priority', 'download'])
    commands.push(`job ${sub}`);
  for (const command of commands) {
    const { code, out } = await cli(undefined, ...command.split(' '), '--help');
    assert.equal(code, 0);
    assert.match(out, /Examples:\n {2}(\w+=\$\()?clipfarm /, command);
  }
});

test('colours are off for pipes and on when asked for', async (t) => {
  const farm = await startFakeFarm(t);
  assert.ok(!(await cli(farm, 'nodes')).out.includes('\u001b'));
  assert.ok((await cli(farm, 'nodes', '--color', 'always')).out.includes('\u001b'));
});

test('what the coordinator refuses in an input is told with the name of the file', async (t) => {
  const farm = await startFakeFarm(t);
  const { image, audio } = files(t);
  const inputs = ['--image', image, '--audio', audio];
  const hint = 'Give a still PNG, JPEG or WebP picture.';
  farm.state.refusePlan = new FarmError('invalid_argument', 'image: it is animated', { field: 'image', hint });
  const planned = await cli(farm, 'plan', ...inputs);
  assert.equal(planned.code, 2);
  assert.match(planned.err, /\nerror: image: ".*me\.png": it is animated\ntry: Give a still PNG/);
  farm.state.failSubmit = () => new FarmError('invalid_argument', 'no sound', { field: 'audio' });
  const submitted = await cli(farm, 'submit', ...inputs);
  assert.match(submitted.err, /error: audio: ".*talk\.wav": no sound\ntry: Correct --audio\./);
  farm.state.failSubmit = () => new FarmError('invalid_argument', 'num_clip is 9', { field: 'num_clip' });
  assert.match((await cli(farm, 'submit', ...inputs)).err, /error: num_clip is 9\n$/);
});

test('the version is an option, too', async () => {
  const { code, out } = await cli(undefined, '--version');
  assert.equal(code, 0);
  assert.match(out, /^clipfarm \d+\.\d+\.\d+ \(node \d+\.\d+\.\d+\)\n$/);
  assert.equal((await cli(undefined, 'version')).out, out);
});
