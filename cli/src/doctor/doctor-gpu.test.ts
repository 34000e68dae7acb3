import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { builtInModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { GIB } from '@clipfarm/shared/model/gpu-cost';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { checkHostMemory } from './gpu-checks.ts';
import { readSafetensors } from './safetensors.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

interface Shown {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly fix?: string;
}

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** A program of a few lines of shell. */
function program(path: string, script: string): void {
  write(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** A whole `.safetensors` file with tensors of four bytes each. */
function safetensors(names: readonly string[]): Buffer {
  const entries = names.map((name, i) => [name, { dtype: 'F32', shape: [1], data_offsets: [4 * i, 4 * i + 4] }]);
  const header = Buffer.from(JSON.stringify({ ...Object.fromEntries(entries), __metadata__: { format: 'pt' } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(4 * names.length)]);
}

/** A file that looks like one of PyTorch's and has that many bytes, nearly none of them on disk. */
function torchFile(path: string, bytes: number): void {
  write(path, 'PK\u0003\u0004');
  truncateSync(path, bytes);
}

const GPU = '0, GPU-1, NVIDIA H100, 00000000:01:00.0, 570.1, 81559, 100, 9.0, 40, 0, 0, 0x0000000000000000';

const PYTHON = {
  ...{ python: '3.12.3', executable: '/venv/bin/python3', torch: '2.8.0', cuda: '12.8', devices: [[9, 0]], fp8: true },
  ...{ error: null, flash: null, flash3: false, missing: [] },
};

/** A host with everything that rendering needs: fake programs on the PATH, tiny weights, a checkout without git. */
function goodHost(t: TestContext) {
  const dir = temporaryDirectory(t);
  const [bin, checkout, weights, lora] = ['bin', 'checkout', 'weights', 'lora.safetensors'].map((name) =>
    join(dir, name),
  );
  assert.ok(bin && checkout && weights && lora);
  program(join(bin, 'nvidia-smi'), `echo '${GPU}'`);
  program(join(bin, 'python3'), `echo 'a warning of some package'\necho '${JSON.stringify(PYTHON)}'`);
  for (const file of ['causal_s2v_pipeline', 'causal_s2v_pipeline_tpp']) {
    write(join(checkout, 'liveavatar', 'models', 'wan', `${file}.py`), '#');
  }
  write(join(checkout, 'liveavatar', 'configs', 's2v_causal_sft.yaml'), '#');
  write(join(checkout, 'minimal_inference', 's2v_streaming_interact.py'), '#');
  write(join(weights, 'config.json'), '{}');
  const shards = { 'a-00001-of-00002.safetensors': ['a', 'b'], 'a-00002-of-00002.safetensors': ['c'] };
  const map = Object.entries(shards).flatMap(([shard, names]) => names.map((name) => [name, shard]));
  const index = JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(map) });
  write(join(weights, 'diffusion_pytorch_model.safetensors.index.json'), index);
  for (const [shard, names] of Object.entries(shards)) write(join(weights, shard), safetensors(names));
  torchFile(join(weights, 'models_t5_umt5-xxl-enc-bf16.pth'), 11.4e9);
  torchFile(join(weights, 'Wan2.1_VAE.pth'), 0.5e9);
  write(join(weights, 'google', 'umt5-xxl', 'tokenizer.json'), '{}');
  for (const file of ['config.json', 'processor_config.json', 'model.safetensors']) {
    write(join(weights, 'wav2vec2-large-xlsr-53-english', file), '{}');
  }
  write(lora, safetensors(['blocks.0.lora_A.weight', 'blocks.0.lora_B.weight']));
  const doctor = (...more: readonly string[]) => {
    const paths = ['--checkout', checkout, '--ckpt-dir', weights, '--lora', lora];
    const argv = [MAIN, 'doctor', '--gpu', '-o', 'json', ...paths, ...more];
    const env = { PATH: `${bin}:${process.env.PATH}`, CLIPFARM_HOME: dir, HOME: dir };
    const { status, stdout, stderr } = spawnSync(process.execPath, argv, { env, encoding: 'utf8' });
    assert.ok(stdout.startsWith('{'), stderr);
    const { checks }: { readonly checks: readonly Shown[] } = JSON.parse(stdout);
    const known = (name: string) => checks.find((check) => check.name === name) ?? assert.fail(`no check ${name}`);
    return { status, checks, known };
  };
  return { bin, checkout, weights, lora, doctor };
}

test('a host with everything passes, and each check says what it found', (t) => {
  const { doctor, checkout } = goodHost(t);
  const { checks, known } = doctor();
  const names = ['driver', 'gpu 0', 'python', 'torch', 'attention', 'fp8', 'packages', 'checkout', 'transformer'];
  const rest = ['text encoder', 'video decoder', 'tokenizer', 'speech encoder', 'lora', 'host memory', 'shared mem'];
  assert.deepEqual(
    checks.map(({ name }) => name),
    ['node', 'ffmpeg', 'disk', ...names, ...rest],
  );
  // What is real here may be too small for a model.
  const real = new Set(['disk', 'host memory']);
  assert.deepEqual(
    checks.filter(({ name, ok }) => !ok && !real.has(name)),
    [],
  );
  assert.equal(known('driver').detail, '570.1, 1 GPU');
  assert.equal(
    known('gpu 0').detail,
    'NVIDIA H100, 79.5 of 79.6 GiB free, compute capability 9.0; bf16 up to 688*368, fp8 up to 720*400',
  );
  assert.match(known('attention').detail, /^PyTorch's own/);
  assert.equal(known('transformer').detail.split(',')[0], '3 tensors in 2 files');
  assert.match(known('checkout').detail, new RegExp(`^${checkout}, commit unknown`));
  assert.match(known('lora').detail, /^2 tensors/);
});

test('whatever is wrong is named with what to do', (t) => {
  const { doctor, bin, checkout, weights, lora } = goodHost(t);
  const missing = {
    ...PYTHON,
    torch: null,
    cuda: null,
    devices: [],
    error: "ModuleNotFoundError: No module named 'torch'",
    missing: ['peft'],
  };
  program(join(bin, 'python3'), `echo '${JSON.stringify(missing).replaceAll("'", '\\u0027')}'`);
  program(join(bin, 'nvidia-smi'), `echo '${GPU.replace('81559', '24564').replace('9.0', '8.6')}'`);
  truncateSync(join(weights, 'a-00001-of-00002.safetensors'), 150);
  truncateSync(join(weights, 'Wan2.1_VAE.pth'), 1000);
  write(lora, safetensors(['blocks.0.weight']));
  for (const argv of [
    ['init', '-q'],
    ['add', '.'],
    ['-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'x'],
  ]) {
    assert.equal(spawnSync('git', ['-C', checkout, ...argv]).status, 0);
  }
  write(join(checkout, 'liveavatar', 'configs', 's2v_causal_sft.yaml'), '# changed');
  const { status, known } = doctor('--profile', 'single-48g-fp8');
  assert.equal(status, 1);
  for (const [name, detail, fix] of [
    [
      'gpu 0',
      /23\.9 of 24\.0 GiB free, compute capability 8\.6; no size fits/,
      /fp8 needs compute capability 8\.9 or more\. Use the profile single-80g/,
    ],
    ['torch', /^PyTorch is not installed in \/venv\/bin\/python3$/, /Install PyTorch 2\.8 there.*--python/],
    ['packages', /missing: peft/, /\/venv\/bin\/python3 -m pip install -r requirements\.txt/],
    ['fp8', /PyTorch is missing/, /See torch/],
    ['transformer', /a-00001-of-00002\.safetensors has .*(broken off|download it again)/, /huggingface-cli download/],
    ['video decoder', /Wan2\.1_VAE\.pth has 1\.0 kB; at least/, /huggingface-cli download/],
    ['lora', /1 tensors, none of them of a LoRA/, /Live-Avatar/],
    [
      'checkout',
      /which was not tried \(tried: 9c2c38d\) has 1 changed files: .*s2v_causal_sft\.yaml/,
      /git -C .* stash/,
    ],
  ] as const) {
    const check = known(name);
    assert.equal(check.ok, false, name);
    assert.match(check.detail, detail);
    assert.match(check.fix ?? '', fix);
  }
});

test('a host without a GPU gets a list that says what is missing', (t) => {
  const { bin, doctor } = goodHost(t);
  program(
    join(bin, 'nvidia-smi'),
    'echo "NVIDIA-SMI has failed because it could not communicate with the driver" >&2; exit 9',
  );
  program(join(bin, 'python3'), 'echo "No module named json" >&2; exit 1');
  const { status, known } = doctor('--checkout', '/nowhere', '--ckpt-dir', '/nowhere');
  assert.equal(status, 1);
  assert.match(known('driver').detail, /could not communicate/);
  assert.match(known('driver').fix ?? '', /Install NVIDIA's driver.*profile synthetic/);
  assert.match(known('python').detail, /ended with status 1: No module named json/);
  assert.match(known('python').fix ?? '', /virtual environment with Python 3\.10 or newer, and add --python/);
  assert.match(known('checkout').detail, /\/nowhere has no liveavatar/);
  assert.match(known('transformer').detail, /\/nowhere has no config\.json/);
});

test('a header of weights is read within bounds, whatever it claims', async (t) => {
  const path = join(temporaryDirectory(t), 'x.safetensors');
  const good = safetensors(['a', 'b']);
  writeFileSync(path, good);
  const { names, dtypes, bytes } = await readSafetensors(path);
  assert.deepEqual([[...names], [...dtypes], bytes], [['a', 'b'], ['F32'], good.length]);
  const huge = Buffer.from(good);
  huge.writeBigUInt64LE(2n ** 63n);
  const noJson = Buffer.from(good);
  noJson.write('!', 8);
  for (const [content, message] of [
    [good.subarray(0, 5), /shorter than 8 bytes/],
    [huge, /header of 9223372036854775808 bytes in a file of/],
    [noJson, /header that is no JSON/],
    [good.subarray(0, -1), /its header says \d+; download it again/],
    [Buffer.concat([good, Buffer.alloc(1)]), /its header says/],
  ] as const) {
    writeFileSync(path, content);
    await assert.rejects(readSafetensors(path), { code: 'failed_precondition', message });
  }
});

test('the host must have the memory that loading takes', () => {
  const profile = builtInModelProfile('single-80g', { checkout: '/c', ckpt_dir: '/w' });
  assert.match(checkHostMemory(profile, 128 * GIB).detail, /enough for 4 slots/);
  assert.equal(checkHostMemory(profile, 24 * GIB).ok, false);
  const tpp = builtInModelProfile('tpp-5x80g', { checkout: '/c', ckpt_dir: '/w' });
  assert.equal(checkHostMemory(tpp, 120 * GIB).ok, false);
});
