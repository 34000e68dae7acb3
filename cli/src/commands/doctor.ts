import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { builtInModelProfile, type HostPaths, type ModelProfile } from '@clipfarm/shared/live-avatar/model-profile';
import { readProfileFile } from '@clipfarm/shared/live-avatar/profile-file';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { NO_LIMITS_HINT, withLimits } from '@clipfarm/shared/media/limited';
import { PROFILES, type Profile, RUNNABLE_PROFILES } from '@clipfarm/shared/model/profiles';
import { broken, type Check, passed } from '../doctor/check.ts';
import { checkFarm } from '../doctor/farm-checks.ts';
import { checkGpuHost } from '../doctor/gpu-checks.ts';
import { checkJournal, journalFlags, journalOptions, optionKey } from '../doctor/journal-checks.ts';
import { exitCode } from '../exit-code.ts';
import { flagValue, type RawOptions } from '../job-options.ts';
import { asTyped } from '../render/program-name.ts';
import type { Style } from '../render/style.ts';
import { padEnd, printable } from '../render/text.ts';
import { bytes } from '../render/units.ts';
import { act, examples, type Handler, type Register } from './register.ts';

/** Oldest major version of Node that runs the product. */
const NODE_MAJOR = 24;

/** Free bytes below which a longer video may not fit. */
const MIN_FREE_BYTES = 5e9;

/** `clipfarm doctor` */
export const registerDoctor: Register = (program, run) => {
  const command = program
    .command('doctor')
    .description(
      'Checks what this machine and its coordinator need, with --gpu what rendering on this host needs, or with --journal ' +
        'whether NATS can keep a journal; each failed check says what to do.',
    )
    .option('--gpu', 'check GPUs, Python, checkout and weights instead of the coordinator')
    .option('--profile <name>', 'with --gpu: the profile to check for (default: single-80g)')
    .option('--profiles <file>', 'with --gpu: YAML file with profiles of your own')
    .option('--checkout <dir>', 'with --gpu: checkout of Live Avatar')
    .option('--ckpt-dir <dir>', 'with --gpu: directory of Wan2.2-S2V-14B')
    .option('--lora <file>', 'with --gpu: liveavatar.safetensors')
    .option('--python <file>', "with --gpu: Python with Live Avatar's requirements (default: python3)")
    .addHelpText(
      'after',
      examples([
        'clipfarm doctor',
        'clipfarm doctor --coordinator farm.example:7400 --tls-ca ca.pem',
        'clipfarm doctor --journal nats://n1,n2,n3 --nats-monitor http://n1:8222,http://n2:8222,http://n3:8222',
        'clipfarm doctor --gpu --checkout /opt/LiveAvatar --ckpt-dir /data/Wan2.2-S2V-14B --lora /data/liveavatar.safetensors',
      ]),
    );
  for (const [flags, description] of journalOptions) command.option(flags, description);
  act(command, run, doctor);
};

/** Options that say something about GPUs only. */
const GPU_OPTIONS = ['--profile', '--profiles', '--checkout', '--ckpt-dir', '--lora', '--python'];

/** Refuses what would be ignored, because the checks that it belongs to are not asked for. */
function refuseIdle(options: RawOptions): void {
  const idle = (flags: readonly string[], asked: string): void => {
    if (options[optionKey(asked)] !== undefined) return;
    const field = flags.find((flag) => options[optionKey(flag)] !== undefined);
    if (field !== undefined)
      throw new FarmError('invalid_argument', `${field} has no effect without ${asked}`, { field });
  };
  idle(GPU_OPTIONS, '--gpu');
  idle(journalFlags, '--journal');
}

const doctor: Handler = async (context, _operands, options) => {
  refuseIdle(options);
  const profile = options.gpu === true ? await wantedProfile(options) : null;
  const checks = [
    checkNode(process.versions.node),
    await checkFfmpeg(),
    await checkDisk(context.shell.environment.home),
  ];
  if (profile !== null) checks.push(...(await checkGpuHost(profile)));
  if (options.journal !== undefined) checks.push(...(await checkJournal(context, options)));
  if (profile === null && options.journal === undefined) checks.push(...(await checkFarm(context)));
  if (context.json) context.printJson({ checks });
  else {
    const width = Math.max(...checks.map(({ name }) => name.length));
    const lines = checks.flatMap((check) => checkLines(check, width, context.style));
    context.print(lines.map((line) => asTyped(line, context.shell.environment.program)));
  }
  return checks.every((check) => check.ok) ? exitCode.ok : exitCode.failure;
};

/** The profile that --gpu is about. What is missing of its paths is a failed check, not a refusal. */
async function wantedProfile(options: RawOptions): Promise<ModelProfile> {
  const name = flagValue(options, 'profile') ?? 'single-80g';
  const path = (flag: string): string | undefined => {
    const given = flagValue(options, flag);
    return given === undefined ? undefined : resolve(given);
  };
  const [checkout, ckptDir, lora] = [path('checkout'), path('ckptDir'), path('lora')];
  const python = flagValue(options, 'python') ?? 'python3';
  const host = { checkout: checkout ?? MISSING, ckpt_dir: ckptDir ?? MISSING, ...(lora && { lora }), python };
  const file = path('profiles');
  const own = file === undefined ? [] : await readProfileFile(file, host);
  const profile =
    own.find((candidate) => candidate.name === name && candidate.runner !== 'synthetic') ?? builtIn(name, own, host);
  const { checkout: found, ckpt_dir: weights, ...rest } = profile;
  return { ...rest, ...(found !== MISSING && { checkout: found }), ...(weights !== MISSING && { ckpt_dir: weights }) };
}

/** Stands for a path that was not given. */
const MISSING = '/not-given';

function builtIn(name: string, own: readonly ModelProfile[], host: HostPaths): ModelProfile {
  const isModel = ({ dtype }: Profile) => dtype !== null;
  if (PROFILES.filter(isModel).some((profile) => profile.name === name)) return builtInModelProfile(name, host);
  const names = [...RUNNABLE_PROFILES.filter(isModel), ...own].map((profile) => profile.name).join(', ');
  throw new FarmError('invalid_argument', `--profile: "${name}": is not known with a model; there is: ${names}`, {
    field: '--profile',
  });
}

function checkNode(version: string): Check {
  if (Number(version.split('.')[0]) >= NODE_MAJOR) return { name: 'node', ok: true, detail: version };
  return {
    name: 'node',
    ok: false,
    detail: `${version}; needed is ${NODE_MAJOR} or newer`,
    fix: 'Run `npm run setup` in the checkout: it brings its own Node.',
  };
}

async function checkFfmpeg(): Promise<Check> {
  try {
    const { version, prlimit } = await withLimits(await findFfmpeg());
    if (prlimit !== undefined) return passed('ffmpeg', version);
    const detail = `${version}; a coordinator here reads uploads without limits of memory and computing`;
    return { name: 'ffmpeg', ok: true, unsafe: true, detail, fix: NO_LIMITS_HINT };
  } catch (error) {
    return broken('ffmpeg', error, 'Install FFmpeg: sudo apt-get install ffmpeg');
  }
}

async function checkDisk(home: string): Promise<Check> {
  const free = await freeBytes(home);
  const detail = `${bytes(free)} free at ${home}`;
  if (free >= MIN_FREE_BYTES) return { name: 'disk', ok: true, detail };
  const fix = `Free space, or set CLIPFARM_HOME to a disk with ${bytes(MIN_FREE_BYTES)} or more.`;
  return { name: 'disk', ok: false, detail, fix };
}

/** Free bytes where the directory is, or will be. */
async function freeBytes(directory: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch (error) {
    const parent = dirname(directory);
    if (parent === directory) throw error;
    return freeBytes(parent);
  }
}

function checkLines({ name, ok, unsafe, detail, fix }: Check, width: number, style: Style): string[] {
  const word = !ok ? style.bad('failed') : unsafe === true ? style.warn('unsafe') : style.good('ok    ');
  const line = `${word}  ${padEnd(name, width)}  ${printable(detail)}`;
  return fix === undefined ? [line] : [line, `        ${style.bold('try:')} ${printable(fix)}`];
}
