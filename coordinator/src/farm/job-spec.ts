import { FarmError } from '@clipfarm/shared/errors';
import type { Anchor, JobSpec, RenderSettings } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { label } from '@clipfarm/shared/label';
import { checkPrompt } from '@clipfarm/shared/model/prompt';
import type { SettingsInput } from '@clipfarm/shared/model/settings';
import { z } from 'zod';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of an upload, 64 hexadecimal digits');

/** Last second of the year 9999: what comes after has no date of four digits. */
const LAST_SECOND = 253_402_300_799;

const PRIORITY = 'must be a whole number of -100 to 100';

const fields = z.object({
  name: label(200),
  imageSha256: sha256,
  audioSha256: sha256,
  prompt: z.string(),
  priority: z.int(PRIORITY).min(-100, PRIORITY).max(100, PRIORITY),
  owner: label(100),
});

/** What a submitter asked for, checked field by field. */
export interface CheckedSpec extends z.infer<typeof fields> {
  readonly settings: SettingsInput;
  /** Wall-clock milliseconds. */
  readonly deadline: number | undefined;
}

/**
 * Checks the form of a job; its media are looked at later.
 *
 * @throws FarmError `invalid_argument` naming the field, its value and what is accepted
 */
export function checkSpec(spec: JobSpec | undefined): CheckedSpec {
  if (!spec) throw new FarmError('invalid_argument', 'spec: missing', { field: 'spec' });
  const parsed = fields.safeParse({ ...spec, owner: spec.owner === '' ? 'default' : spec.owner });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = snake(issue?.path.join('.') ?? 'spec');
    throw new FarmError('invalid_argument', `${field}: ${issue?.message ?? 'not accepted'}`, { field });
  }
  checkPrompt(parsed.data.prompt);
  return { ...parsed.data, settings: settingsOf(spec.settings), deadline: deadlineOf(spec) };
}

/** Of an order, in wall-clock milliseconds. */
function deadlineOf({ deadline }: JobSpec): number | undefined {
  if (!deadline) return undefined;
  const { seconds } = deadline;
  if (seconds >= 0 && seconds <= LAST_SECOND) return seconds * 1000;
  const message = `deadline: ${seconds} s; accepted is a time in the years 1970 to 9999, 0 to ${LAST_SECOND} s`;
  throw new FarmError('invalid_argument', message, { field: 'deadline' });
}

/** The message's settings as the model's functions take them: absent fields stay absent. */
function settingsOf(settings: RenderSettings | undefined): SettingsInput {
  if (!settings) return {};
  return withoutAbsent({
    preset: settings.preset === '' ? undefined : settings.preset,
    size: settings.size,
    numClip: settings.numClip,
    sampleSteps: settings.sampleSteps,
    inferFrames: settings.inferFrames,
    baseSeed: settings.baseSeed,
    sampleGuideScale: settings.sampleGuideScale,
    enableOnlineDecode: settings.enableOnlineDecode,
    sampleSolver: settings.sampleSolver,
    anchor: anchorModes[settings.anchor],
  });
}

const anchorModes: { readonly [A in Anchor]: 'first_frame' | 'image' | undefined } = {
  ANCHOR_UNSPECIFIED: undefined,
  ANCHOR_FIRST_FRAME: 'first_frame',
  ANCHOR_IMAGE: 'image',
};

function withoutAbsent<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}
