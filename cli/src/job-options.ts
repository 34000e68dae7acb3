import { FarmError } from '@clipfarm/shared/errors';
import { Anchor, type RenderSettings } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { DEFAULT_PRESET, PRESET_NAMES } from '@clipfarm/shared/model/presets';
import { MAX_PROMPT_CHARACTERS } from '@clipfarm/shared/model/prompt';
import { ANCHORS, type SettingsInput } from '@clipfarm/shared/model/settings';
import { UPSTREAM_FLAGS, type UpstreamFlag } from '@clipfarm/shared/model/upstream-flags';
import { type Command, Option } from 'commander';
import { parseBoolean, parseChoice, parseNumber, parseWhole, refuseValue } from './values.ts';

/** What commander has read: flags by name, upstream's in either spelling. */
export type RawOptions = Readonly<Record<string, unknown>>;

/** Upstream's flags that are render settings, with what `--help` says about them. */
const settingFlags = [
  ['size', '<w*h>', 'budget of pixels: 384*256, 688*368, 704*384 or 720*400; the image decides the shape'],
  ['num_clip', '<n>', 'render only the first n clips of 1.92 s; left out, the whole audio'],
  ['sample_steps', '<n>', 'denoising steps, 1 to 4'],
  ['infer_frames', '<n>', 'frames per clip; only 48'],
  ['base_seed', '<n>', 'seed of the first clip; left out or negative, one is drawn'],
  ['sample_guide_scale', '<x>', 'only 0'],
  ['enable_online_decode', '[bool]', 'decode while rendering; the farm always does'],
  ['sample_solver', '<name>', 'only euler'],
  ['anchor', '<which>', `reference picture of later spans: ${ANCHORS.join(' or ')}`],
] as const;

/** Flags that this program has under the same name for the same thing. */
const ownFlags = new Set(['--image', '--audio', '--prompt']);

/** Adds everything that describes a job: its inputs, its render settings, and the flags of upstream's scripts. */
export function addJobOptions(command: Command): Command {
  command
    .option('--image <file>', 'the portrait: PNG, JPEG or WebP')
    .option('--audio <file>', 'the speech: WAV, MP3, M4A, AAC, FLAC or Ogg')
    .option('--prompt <text>', `what the picture shows; at most ${MAX_PROMPT_CHARACTERS} characters`)
    .option('--prompt_file <file>', 'read the prompt from a file')
    .option('--name <text>', "label of the job (default: the audio file's name)")
    .option('--owner <name>', 'whose share of the farm it uses')
    .option('--priority <n>', 'higher runs first, -100 to 100', '0')
    .option('--deadline <when>', 'when it should be done: 90m, 6h, 2d or 2030-05-01T18:00:00Z')
    .option('--preset <name>', `settings to start from: ${PRESET_NAMES.join(', ')} (default: ${DEFAULT_PRESET})`);
  for (const [name, value, description] of settingFlags) command.option(`--${name} ${value}`, description);
  for (const flag of otherFlags()) {
    command.addOption(new Option(`${flag.flag}${flag.takesValue ? ' <value>' : ''}`).hideHelp());
  }
  addDashedSpellings(command);
  return command;
}

/**
 * Render settings as given, unset where no flag was.
 *
 * @throws FarmError `invalid_argument` for a value of the wrong type, or a flag given in both spellings.
 */
export function readSettings(raw: RawOptions): SettingsInput {
  const text = (name: string) => flagValue(raw, name);
  const number = (name: string) => {
    const value = text(name);
    return value === undefined
      ? undefined
      : name === 'sample_guide_scale'
        ? parseNumber(name, value)
        : parseWhole(name, value);
  };
  const online = text('enable_online_decode');
  const anchor = text('anchor');
  const preset = text('preset');
  // In the protocol an empty name stands for the default; here it is a variable that somebody forgot to set.
  if (preset === '') throw refuseValue('preset', preset, PRESET_NAMES.join(', '));
  return withoutUndefined({
    preset,
    size: text('size'),
    numClip: number('num_clip'),
    sampleSteps: number('sample_steps'),
    inferFrames: number('infer_frames'),
    baseSeed: number('base_seed'),
    sampleGuideScale: number('sample_guide_scale'),
    enableOnlineDecode: online === undefined ? undefined : parseBoolean('enable_online_decode', online),
    sampleSolver: text('sample_solver'),
    anchor: anchor === undefined ? undefined : parseChoice('anchor', anchor, ANCHORS),
  });
}

/**
 * The settings for the coordinator, which resolves them itself.
 *
 * @param baseSeed the seed after resolution; undefined lets the coordinator draw one.
 */
export function settingsMessage(input: SettingsInput, baseSeed: number | undefined): RenderSettings {
  const { preset, anchor, ...rest } = input;
  const anchors = { first_frame: Anchor.ANCHOR_FIRST_FRAME, image: Anchor.ANCHOR_IMAGE } as const;
  return {
    ...rest,
    baseSeed,
    preset: preset ?? '',
    anchor: anchor === undefined ? Anchor.ANCHOR_UNSPECIFIED : anchors[anchor],
  };
}

/**
 * Remarks on flags of upstream's scripts that have no part in a job.
 *
 * @throws FarmError `invalid_argument` for one that asks for something that the farm can't do.
 */
export function remarksOnFlags(raw: RawOptions): string[] {
  const given = otherFlags().filter(({ flag }) => flagValue(raw, flag.slice(2)) !== undefined);
  const refused = given.find(({ verdict }) => verdict === 'refused');
  if (refused !== undefined) {
    const field = refused.flag.slice(2);
    throw new FarmError('invalid_argument', `${refused.flag} is not accepted: ${refused.why}`, {
      field,
      hint: `Leave ${refused.flag} out.`,
    });
  }
  return given.map(({ flag, why }) => `${flag} is ignored: ${why}`);
}

/** Value of a flag in either spelling, as text; undefined when it was not given. */
export function flagValue(raw: RawOptions, name: string): string | undefined {
  const spellings = [name, camelCase(name)].filter((key, index, all) => all.indexOf(key) === index);
  const values = spellings.map((key) => raw[key]).filter((value) => value !== undefined);
  if (values.length > 1) {
    throw new FarmError('invalid_argument', `${name} is given twice, as --${name} and as --${dashed(name)}`, {
      field: name,
    });
  }
  return values[0] === undefined ? undefined : String(values[0]);
}

function otherFlags(): readonly UpstreamFlag[] {
  const known = new Set<string>([...ownFlags, ...settingFlags.map(([name]) => `--${name}`)]);
  return UPSTREAM_FLAGS.filter(({ flag }) => !known.has(flag));
}

/** Gives every flag with an underscore a hidden twin with dashes. */
function addDashedSpellings(command: Command): void {
  for (const option of [...command.options]) {
    const name = option.long?.slice(2) ?? '';
    if (!name.includes('_') || command.options.some((other) => other.long === `--${dashed(name)}`)) continue;
    const value = option.flags.split(' ').slice(1).join(' ');
    command.addOption(new Option(`--${dashed(name)} ${value}`.trim()).hideHelp());
  }
}

function dashed(name: string): string {
  return name.replaceAll('_', '-');
}

/** The name under which commander keeps a dashed flag. */
function camelCase(name: string): string {
  return name.replace(/_(.)/g, (_match, letter: string) => letter.toUpperCase());
}

type WithoutUndefined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(value: T): WithoutUndefined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as WithoutUndefined<T>;
}
