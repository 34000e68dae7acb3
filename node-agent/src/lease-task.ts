import { FarmError } from '@clipfarm/shared/errors';
import { fieldProblem } from '@clipfarm/shared/field-problem';
import type { Grant, InputRef } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { clipsForFrames, MAX_BASE_SEED } from '@clipfarm/shared/model/clip';
import { checkLease } from '@clipfarm/shared/model/lease-frames';
import { checkPrompt } from '@clipfarm/shared/model/prompt';
import { z } from 'zod';

/** A content-addressed input: SHA-256 in hex and size in bytes. */
export type ContentRef = z.infer<typeof contentRef>;

/** A lease as a slot works on it: a checked {@link Grant}. Clips are numbered within the job. */
export type LeaseTask = z.infer<typeof leaseTask>;

/** Largest input that an agent fetches, in bytes: a WAV file of 16 kHz mono PCM of about 18 hours. */
const MAX_INPUT_BYTES = 2 ** 31;

/** Widest or highest picture in pixels; far above what the model can render. */
const MAX_SIDE = 4096;

const count = z.number().int().nonnegative();
const identity = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/, '1 to 128 letters, digits, . _ : or -, the first a letter or digit');

const contentRef = z.object({
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex'),
  bytes: z.number().int().positive().max(MAX_INPUT_BYTES),
});

const leaseTask = z
  .object({
    /** Farm that granted it; empty where it has not told who it is. */
    farmId: z.string(),
    leaseId: identity,
    jobId: identity,
    slotId: identity,
    span: count,
    start: count,
    end: count,
    preRoll: count,
    /** Lease of this slot whose model call goes on, if the runner still has it open; otherwise a new one is begun. */
    continues: identity.nullable(),
    /** Clips of the job. */
    clips: z.number().int().positive(),
    /** Frames of the job. */
    frames: z.number().int().positive(),
    width: z.number().int().positive().max(MAX_SIDE).multipleOf(2),
    height: z.number().int().positive().max(MAX_SIDE).multipleOf(2),
    sampleSteps: z.number().int().min(1).max(4),
    baseSeed: count.max(MAX_BASE_SEED),
    prompt: z.string(),
    reference: contentRef,
    audio: contentRef,
    /** Reference picture of spans that use the job's anchor. */
    anchor: contentRef.nullable(),
    /** True when the first frame of this lease becomes the job's anchor. */
    makeAnchor: z.boolean(),
    /** Seconds without progress after which the attempt is a hang. */
    hangSeconds: z.number().positive().finite(),
  })
  .refine((lease) => lease.end <= lease.clips, { path: ['end'], message: 'an end within the clips of the job' })
  .refine((lease) => !lease.makeAnchor || lease.start === 0, {
    path: ['makeAnchor'],
    message: 'false, save for a lease that starts at clip 0',
  })
  .refine((lease) => lease.clips === clipsForFrames(lease.frames), {
    path: ['frames'],
    message: 'frames that end within the last clip of the job',
  });

/**
 * Checks a grant.
 *
 * @param farmId farm that sent it
 * @throws FarmError `invalid_argument` naming every field that is wrong.
 */
export function leaseTaskFromGrant(grant: Grant, farmId: string): LeaseTask {
  const { task, start, end, preRoll, continues, span, leaseId, jobId, slotId, hangSeconds } = grant;
  if (task === undefined) throw new FarmError('invalid_argument', 'task: is missing from the grant', { field: 'task' });
  const { width, height, clips, frames, sampleSteps, baseSeed, prompt, makeAnchor } = task;
  const given = {
    ...{ farmId, leaseId, jobId, slotId, span, start, end, preRoll, hangSeconds },
    ...{ width, height, clips, frames, sampleSteps, baseSeed, prompt, makeAnchor },
    continues: continues === '' ? null : continues,
    reference: plainRef(task.reference),
    audio: plainRef(task.audio),
    anchor: plainRef(task.anchor) ?? null,
  };
  const found = leaseTask.safeParse(given);
  if (found.success) {
    checkLease(found.data);
    checkPrompt(found.data.prompt);
    return found.data;
  }
  const problems = found.error.issues.map((issue) => fieldProblem(issue, given, ''));
  const text = `the grant can't be rendered: ${problems.map(({ message }) => message).join('; ')}`;
  throw new FarmError('invalid_argument', text, { field: problems[0]?.field ?? 'grant' });
}

function plainRef(ref: InputRef | undefined): ContentRef | undefined {
  return ref === undefined ? undefined : { sha256: ref.sha256, bytes: ref.bytes };
}
