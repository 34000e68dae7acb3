import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pictureSize, UPSTREAM_SIZES, USABLE_SIZES } from '@clipfarm/shared/model/size';
import { runTool } from '@clipfarm/shared/process';
import fc from 'fast-check';
import type { SpanRequest } from '../../src/runner/protocol.ts';
import { rankCommands, scriptArgs, sizeForPicture } from './command.ts';
import { type CliOptions, parseOptions } from './options.ts';

const PARSER = fileURLToPath(new URL('testdata/upstream-parser.py', import.meta.url));
const SIZES = fileURLToPath(new URL('testdata/upstream-size.py', import.meta.url));
const { CLIPFARM_UPSTREAM: upstream } = process.env;

const required = ['--socket', '/s', '--python', '/venv/bin/python', '--checkout', '/la', '--ckpt-dir', '/ckpt'];
const options = (...more: string[]): CliOptions =>
  parseOptions([...required, '--lora', '/lora/liveavatar.safetensors', ...more], '/tmp');

const request: SpanRequest = {
  ...{ leaseId: 'l', jobId: 'j', span: 0, start: 4, end: 9, preRoll: 2, continues: null, clips: 20 },
  ...{ width: 704, height: 384, sampleSteps: 4, baseSeed: 420, prompt: 'a woman talks' },
  ...{ referencePath: '/in/image', anchored: true, audioPath: '/in/audio' },
};
const files = { image: '/w/reference.png', audio: '/w/audio.wav', output: '/w/video.mp4' };

test('the command line of a span on one GPU', () => {
  assert.deepEqual(scriptArgs(options('--fp8'), request, files), [
    '--task=s2v-14B',
    '--size=704*384',
    '--ckpt_dir=/ckpt',
    '--offload_model=True',
    '--prompt=a woman talks',
    '--image=/w/reference.png',
    '--audio=/w/audio.wav',
    '--num_clip=7',
    '--base_seed=422',
    '--infer_frames=48',
    '--sample_solver=euler',
    '--sample_steps=4',
    '--sample_guide_scale=0',
    '--training_config=/la/liveavatar/configs/s2v_causal_sft.yaml',
    '--lora_path_dmd=/lora/liveavatar.safetensors',
    '--num_gpus_dit=1',
    '--save_file=/w/video.mp4',
    '--load_lora',
    '--convert_model_dtype',
    '--fp8',
  ]);
});

test('without weights of its own nothing is said of them', () => {
  const plain = parseOptions(required, '/tmp');
  const args = scriptArgs(plain, request, files);
  assert.deepEqual(
    args.filter((arg) => arg.includes('lora')),
    [],
  );
});

test('every rank of five is started with the same arguments and its own place', () => {
  const five = options('--tpp', '--compile');
  const args = scriptArgs(five, request, files);
  assert.ok(['--offload_model=False', '--num_gpus_dit=4', '--enable_vae_parallel'].every((arg) => args.includes(arg)));
  const commands = rankCommands(five, args, 31_234, { PATH: '/bin', CUDA_VISIBLE_DEVICES: '0,1,2,3,4' });
  assert.deepEqual(
    commands.map(({ env }) => [env.RANK, env.LOCAL_RANK, env.WORLD_SIZE]),
    ['0', '1', '2', '3', '4'].map((rank) => [rank, rank, '5']),
  );
  for (const { command, args: given, env } of commands) {
    assert.equal(command, '/venv/bin/python');
    assert.deepEqual(given, ['/la/minimal_inference/s2v_streaming_interact.py', ...args]);
    const { MASTER_ADDR, MASTER_PORT, ENABLE_COMPILE, PYTHONUTF8, CUDA_VISIBLE_DEVICES } = env;
    assert.deepEqual(
      [MASTER_ADDR, MASTER_PORT, ENABLE_COMPILE, PYTHONUTF8, CUDA_VISIBLE_DEVICES],
      ['127.0.0.1', '31234', 'true', '1', '0,1,2,3,4'],
    );
  }
  // Upstream compiles unless it is told not to.
  assert.equal(rankCommands(options(), args, 1, {})[0]?.env.ENABLE_COMPILE, 'false');
});

test('the size given to upstream leaves every prepared reference as it is', () => {
  const side = fc.integer({ min: 256, max: 4096 });
  const image = fc.record({ width: side, height: side, size: fc.constantFrom(...USABLE_SIZES) });
  fc.assert(
    fc.property(image, ({ width, height, size }) => {
      fc.pre(2 * Math.max(width, height) <= 5 * Math.min(width, height));
      const picture = pictureSize(width, height, size);
      const given = sizeForPicture(picture.width, picture.height, false);
      const { units: _, ...made } = pictureSize(picture.width, picture.height, given);
      assert.deepEqual(made, { width: picture.width, height: picture.height });
    }),
  );
});

test('what upstream would crash on is refused', () => {
  const refuse = (change: Partial<SpanRequest>, field: string, more: string[] = []) =>
    assert.throws(() => scriptArgs(options(...more), { ...request, ...change }, files), {
      code: 'invalid_argument',
      field,
    });
  refuse({ width: 832, height: 448 }, 'size');
  refuse({ width: 700 }, 'size');
  refuse({ prompt: 'a\0b' }, 'prompt');
  refuse({ sampleSteps: 3 }, 'sample_steps', ['--tpp']);
  const several = { ...files, audio: '/w+1/audio.wav' };
  assert.throws(() => scriptArgs(options(), request, several), { field: 'audio' });
});

const skip = upstream === undefined ? 'CLIPFARM_UPSTREAM names no checkout of Live Avatar' : false;

async function upstreamReads(args: readonly string[], world: number): Promise<Readonly<Record<string, unknown>>> {
  const argv = [PARSER, upstream ?? '', String(world), ...args];
  const { stdout } = await runTool('python3', argv, { timeoutMs: 60_000 });
  return JSON.parse(stdout.toString('utf8'));
}

test("upstream's own parser reads every value as it was meant", { skip }, async () => {
  const prompts = [
    'a woman talks',
    '--fp8',
    '-1',
    '',
    ' ',
    '"\'$(id)`\\',
    '北京 👩🏽‍🚀 e\u0301\nsecond line\r\n\ttab',
    '@file',
    '--prompt=x',
  ];
  for (const prompt of prompts) {
    const args = scriptArgs(
      options('--fp8', '--t5-cpu', '--offload-kv-cache', '--online-decode'),
      { ...request, prompt },
      files,
    );
    const read = await upstreamReads(args, 1);
    const expected = {
      ...{
        task: 's2v-14B',
        size: '704*384',
        ckpt_dir: '/ckpt',
        offload_model: true,
        prompt,
        num_clip: 7,
        base_seed: 422,
      },
      ...{ image: files.image, audio: files.audio, save_file: files.output, infer_frames: 48, sample_solver: 'euler' },
      ...{ sample_steps: 4, sample_guide_scale: 0, load_lora: true, lora_path_dmd: '/lora/liveavatar.safetensors' },
      ...{ training_config: '/la/liveavatar/configs/s2v_causal_sft.yaml', convert_model_dtype: true, fp8: true },
      ...{
        t5_cpu: true,
        offload_kv_cache: true,
        enable_online_decode: true,
        enable_vae_parallel: false,
        num_gpus_dit: 1,
      },
      ...{ single_gpu: true, enable_tts: false, use_prompt_extend: false, pose_video: null, ulysses_size: 1 },
    };
    for (const [name, value] of Object.entries(expected)) assert.deepEqual(read[name], value, `${name} for ${prompt}`);
  }
});

test('upstream admits the five ranks, and no other number', { skip }, async () => {
  const args = scriptArgs(options('--tpp', '--fp8'), request, files);
  const read = await upstreamReads(args, 5);
  const { offload_model, num_gpus_dit, enable_vae_parallel, single_gpu } = read;
  assert.deepEqual([offload_model, num_gpus_dit, enable_vae_parallel, single_gpu], [false, 4, true, false]);
  await assert.rejects(upstreamReads(args, 4), { message: /At least 5 GPUs/ });
});

test('upstream accepts every size that is given to it', { skip }, async () => {
  for (const [width, height] of [
    [384, 256],
    [640, 384],
    [384, 704],
    [448, 640],
    [512, 512],
  ] as const) {
    const args = scriptArgs(options(), { ...request, width, height }, files);
    const { size } = await upstreamReads(args, 1);
    const made = pictureSize(width, height, size as (typeof USABLE_SIZES)[number]);
    assert.deepEqual([made.width, made.height], [width, height]);
  }
});

test('a picture has the size that upstream itself would choose', { skip }, async () => {
  const side = fc.integer({ min: 64, max: 8192 });
  const images = fc.sample(fc.tuple(side, side, fc.constantFrom(...UPSTREAM_SIZES)), 3000);
  const usual = images.filter(([width, height]) => 2 * Math.max(width, height) <= 5 * Math.min(width, height));
  const { stdout } = await runTool('python3', [SIZES, upstream ?? ''], {
    timeoutMs: 60_000,
    stdin: Buffer.from(JSON.stringify(usual)),
  });
  const made = usual.map(([width, height, size]) => {
    const picture = pictureSize(width, height, size);
    return [picture.width, picture.height];
  });
  assert.ok(usual.length > 1000);
  assert.deepEqual(JSON.parse(stdout.toString('utf8')), made);
});
