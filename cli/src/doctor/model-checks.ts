import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { runTool } from '@clipfarm/shared/process';
import { z } from 'zod';
import { bytes } from '../render/units.ts';
import { broken, type Check, failed, passed } from './check.ts';
import { readSafetensors } from './safetensors.ts';

/** Commits of Live Avatar that the farm was tried with. The code that renders has not changed between them. */
const TRIED_COMMITS = ['9c2c38d'] as const;

/** What a checkout must have for the runners. */
const CHECKOUT_FILES = [
  'liveavatar/models/wan/causal_s2v_pipeline.py',
  'liveavatar/models/wan/causal_s2v_pipeline_tpp.py',
  'liveavatar/configs/s2v_causal_sft.yaml',
  'minimal_inference/s2v_streaming_interact.py',
] as const;

const CLONE = 'git clone https://github.com/Alibaba-Quark/LiveAvatar DIR; then --checkout DIR';
const WEIGHTS = '46 GB: huggingface-cli download Wan-AI/Wan2.2-S2V-14B --local-dir DIR; then --ckpt-dir DIR';
const LORA =
  '1.4 GB: huggingface-cli download Quark-Vision/Live-Avatar --local-dir DIR; then --lora DIR/liveavatar.safetensors';

/** Checks a checkout of Live Avatar: there, of a known commit, unmodified. */
export async function checkCheckout(checkout: string | undefined): Promise<Check> {
  const name = 'checkout';
  if (checkout === undefined) return failed(name, 'no --checkout was given', CLONE);
  for (const file of CHECKOUT_FILES) {
    if (!(await sizeOf(join(checkout, file)))) return failed(name, `${checkout} has no ${file}`, CLONE);
  }
  try {
    const commit = await git(checkout, 'rev-parse', 'HEAD');
    const changed = (await git(checkout, 'status', '--porcelain', '--untracked-files=no')).split('\n').filter(Boolean);
    const known = TRIED_COMMITS.some((tried) => commit.startsWith(tried));
    const which = `${commit.slice(0, 12)}${known ? '' : `, which was not tried (tried: ${TRIED_COMMITS.join(', ')})`}`;
    if (changed.length === 0) return passed(name, `${checkout} at ${which}`);
    const detail = `${checkout} at ${which} has ${changed.length} changed files: ${changed.slice(0, 3).join(', ')}`;
    return failed(name, detail, `The runners expect upstream's own code: git -C ${checkout} stash`);
  } catch {
    return passed(name, `${checkout}, commit unknown: it is no git checkout, or git is missing`);
  }
}

/** Checks the model's weights, in the layout that upstream loads. */
export async function checkWeights(dir: string | undefined): Promise<readonly Check[]> {
  if (dir === undefined) return [failed('weights', 'no --ckpt-dir was given', WEIGHTS)];
  return Promise.all([
    checkTransformer(dir),
    checkTorchFile('text encoder', join(dir, 'models_t5_umt5-xxl-enc-bf16.pth'), 11.3e9),
    checkTorchFile('video decoder', join(dir, 'Wan2.1_VAE.pth'), 0.25e9),
    checkFiles('tokenizer', join(dir, 'google', 'umt5-xxl'), [['tokenizer.json', 'spiece.model']]),
    checkFiles('speech encoder', join(dir, 'wav2vec2-large-xlsr-53-english'), [
      ['config.json'],
      // The second is what transformers 5 writes.
      ['preprocessor_config.json', 'processor_config.json'],
      ['model.safetensors', 'pytorch_model.bin'],
    ]),
  ]);
}

/** Checks the LoRA that makes the model a 4-step one. */
export async function checkLora(file: string | undefined): Promise<Check> {
  const name = 'lora';
  if (file === undefined) {
    return failed(name, 'no --lora was given; without it four steps give a blurred picture', LORA);
  }
  try {
    const { names, bytes: size } = await readSafetensors(file);
    const lora = [...names].filter((tensor) => tensor.includes('lora')).length;
    if (lora === 0) return failed(name, `${file} holds ${names.size} tensors, none of them of a LoRA`, LORA);
    return passed(name, `${lora} tensors, ${bytes(size)}`);
  } catch (error) {
    return broken(name, error, LORA);
  }
}

const indexFile = z.object({ weight_map: z.record(z.string(), z.string().regex(/^[\w.-]{1,200}$/)) });

/** Largest index in bytes. */
const MAX_INDEX_BYTES = 16 * 2 ** 20;

/** The shards of the transformer: every tensor of the index is in the file that the index says, and every file is whole. */
async function checkTransformer(dir: string): Promise<Check> {
  const name = 'transformer';
  try {
    if (!(await sizeOf(join(dir, 'config.json')))) return failed(name, `${dir} has no config.json`, WEIGHTS);
    const index = join(dir, 'diffusion_pytorch_model.safetensors.index.json');
    const size = await sizeOf(index);
    if (size === null || size > MAX_INDEX_BYTES) return failed(name, `${index} is missing or no index`, WEIGHTS);
    const found = indexFile.safeParse(JSON.parse(await readFile(index, 'utf8')));
    if (!found.success) return failed(name, `${index} is no index of shards`, WEIGHTS);
    const entries = Object.entries(found.data.weight_map);
    const shards = Map.groupBy(entries, ([, shard]) => shard);
    let total = 0;
    for (const [shard, tensors] of shards) {
      const info = await readSafetensors(join(dir, shard));
      const missing = tensors.filter(([tensor]) => !info.names.has(tensor));
      if (missing.length > 0) {
        return failed(name, `${shard} lacks ${missing.length} tensors, such as ${missing[0]?.[0]}`, WEIGHTS);
      }
      total += info.bytes;
    }
    return passed(name, `${entries.length} tensors in ${shards.size} files, ${bytes(total)}`);
  } catch (error) {
    return broken(name, error, WEIGHTS);
  }
}

/** A file of PyTorch's: an archive of at least that many bytes. What is in it is code, and is not read here. */
async function checkTorchFile(name: string, path: string, leastBytes: number): Promise<Check> {
  const size = await sizeOf(path);
  if (size === null) return failed(name, `${path} is missing`, WEIGHTS);
  if (size < leastBytes)
    return failed(name, `${path} has ${bytes(size)}; at least ${bytes(leastBytes)} are expected`, WEIGHTS);
  const file = await open(path, 'r');
  try {
    const start = Buffer.alloc(4);
    await file.read(start, 0, 4, 0);
    if (start.toString('latin1') !== 'PK\u0003\u0004') return failed(name, `${path} is no file of PyTorch's`, WEIGHTS);
  } finally {
    await file.close();
  }
  return passed(name, bytes(size));
}

/** A directory with one of each group of files. */
async function checkFiles(name: string, dir: string, groups: readonly (readonly string[])[]): Promise<Check> {
  for (const group of groups) {
    const sizes = await Promise.all(group.map((file) => sizeOf(join(dir, file))));
    if (!sizes.some((size) => size !== null && size > 0))
      return failed(name, `${dir} has no ${group.join(' or ')}`, WEIGHTS);
  }
  return passed(name, dir);
}

/** Bytes of a file; null when there is none. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : null;
  } catch {
    return null;
  }
}

/** Runs git in somebody else's directory, without any program that its configuration names. */
async function git(directory: string, ...args: readonly string[]): Promise<string> {
  const safe = ['-c', `safe.directory=${directory}`, '-c', 'core.fsmonitor=false', '-C', directory];
  const { stdout } = await runTool('git', [...safe, ...args], { timeoutMs: 20_000, maxOutputBytes: 2 ** 20 });
  const text = stdout.toString('utf8').trim();
  if (args[0] === 'rev-parse' && !/^[0-9a-f]{40,64}$/.test(text)) throw new FarmError('internal', 'git: no commit');
  return text;
}
