import { access, constants, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { runTool } from '@clipfarm/shared/process';
import { ranksOf, SCRIPT } from './command.ts';
import type { CliOptions } from './options.ts';

/** What upstream opens below `--ckpt_dir` (wan_s2v_14B_modified.py, audio_encoder.py), besides the shards of the model. */
const WEIGHTS = [
  'config.json',
  'models_t5_umt5-xxl-enc-bf16.pth',
  'Wan2.1_VAE.pth',
  join('google', 'umt5-xxl'),
  'wav2vec2-large-xlsr-53-english',
] as const;

/** The agent waits for the runner's first message, which tells the versions. */
const PYTHON_TIMEOUT_MS = 10_000;

/** Printed by the Python of the host, without importing anything heavy. */
const VERSIONS = `import json, platform
from importlib import metadata
found = {"python": platform.python_version()}
for name in ("torch", "transformers", "flash-attn"):
    try: found[name] = metadata.version(name)
    except metadata.PackageNotFoundError: pass
print(json.dumps(found))`;

/**
 * Makes sure that everything is there that upstream's script opens, so that what is missing is known before a lease comes
 * and not minutes into one.
 *
 * @param devices value of CUDA_VISIBLE_DEVICES; undefined leaves the choice to CUDA
 * @throws FarmError `failed_precondition` naming the option, the path and what to do.
 */
export async function checkHost(options: CliOptions, devices: string | undefined): Promise<void> {
  const { checkout, ckptDir, lora, python, trainingConfig, ffmpeg, ffprobe } = options;
  // Starts without importing anything; a name is looked up on the PATH.
  await runTool(python, ['-c', 'pass'], { timeoutMs: PYTHON_TIMEOUT_MS, env: process.env }).catch((cause: unknown) => {
    throw missing('--python', FarmError.from(cause).message, "a Python with the checkout's requirements", cause);
  });
  await expectFile('--checkout', join(checkout, SCRIPT), 'a checkout of Live Avatar');
  for (const name of WEIGHTS) await expectFile('--ckpt-dir', join(ckptDir, name), 'the folder of Wan2.2-S2V-14B');
  if (!(await readdir(ckptDir)).some((name) => name.endsWith('.safetensors'))) {
    throw missing('--ckpt-dir', `${ckptDir} holds no .safetensors file`, 'the folder of Wan2.2-S2V-14B');
  }
  if (lora !== undefined) await expectFile('--lora', lora, "Live Avatar's liveavatar.safetensors");
  if (trainingConfig !== undefined) await expectFile('--training-config', trainingConfig, 'a YAML file');
  await expectFile('--work-dir', options.workDir, 'a folder that this user can write to', constants.W_OK);
  const needed = ranksOf(options);
  const given = devices?.split(',').filter((device) => device.trim() !== '').length;
  if (given !== undefined && given !== needed) {
    const message = `CUDA_VISIBLE_DEVICES names ${given} GPUs; upstream's ${options.tpp ? 'mode on several' : 'script'} takes ${needed}`;
    throw new FarmError('failed_precondition', message, { field: 'CUDA_VISIBLE_DEVICES' });
  }
  await findFfmpeg({ ffmpegPath: ffmpeg, ffprobePath: ffprobe });
}

/** Versions by name: Python, torch and the like, and upstream's commit; what can't be found out is left out. */
export async function versionsOf(options: CliOptions): Promise<Readonly<Record<string, string>>> {
  const [python, commit] = await Promise.all([pythonVersions(options.python), commitOf(options.checkout)]);
  return { node: process.versions.node, ...python, ...(commit === undefined ? {} : { upstream: commit }) };
}

async function pythonVersions(python: string): Promise<Readonly<Record<string, string>>> {
  try {
    const { stdout } = await runTool(python, ['-c', VERSIONS], { timeoutMs: PYTHON_TIMEOUT_MS, env: process.env });
    const found: unknown = JSON.parse(stdout.toString('utf8'));
    if (typeof found !== 'object' || found === null) return {};
    return Object.fromEntries(Object.entries(found).map(([name, version]) => [name, String(version).slice(0, 200)]));
  } catch {
    return {};
  }
}

/** Commit of a git checkout, by git's own files: git itself need not be there, and may distrust another user's folder. */
async function commitOf(checkout: string): Promise<string | undefined> {
  try {
    const git = join(checkout, '.git');
    const head = (await readFile(join(git, 'HEAD'), 'utf8')).trim();
    const ref = /^ref: (refs\/[\w./-]+)$/.exec(head)?.[1];
    if (ref === undefined) return commit(head);
    const loose = await readFile(join(git, ref), 'utf8').catch(() => undefined);
    if (loose !== undefined) return commit(loose.trim());
    const packed = await readFile(join(git, 'packed-refs'), 'utf8');
    return commit(
      packed
        .split('\n')
        .find((line) => line.endsWith(` ${ref}`))
        ?.split(' ')[0] ?? '',
    );
  } catch {
    return undefined;
  }
}

function commit(text: string): string | undefined {
  return /^[0-9a-f]{40}$/.test(text) ? text : undefined;
}

async function expectFile(option: string, path: string, accepted: string, mode = constants.R_OK): Promise<void> {
  try {
    await stat(path);
    await access(path, mode);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    const what = code === 'ENOENT' ? 'does not exist' : 'can not be used by this user';
    throw missing(option, `${path} ${what}`, accepted, cause);
  }
}

function missing(option: string, what: string, accepted: string, cause?: unknown): FarmError {
  return new FarmError('failed_precondition', `${option}: ${what}; accepted: ${accepted}`, { field: option, cause });
}
