import { FarmError } from '@clipfarm/shared/errors';
import { fieldProblem } from '@clipfarm/shared/field-problem';
import { Hello } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { Gpu, SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { label } from '@clipfarm/shared/label';
import { z } from 'zod';
import type { AgentRefusal } from '../admin/metrics.ts';

/** Version of the agent link that this coordinator speaks. */
const PROTOCOL = 1;

/** Field of the error of {@link checkTerm}; agents count by it. */
const TERM_FIELD = 'hello.term';

const PROTOCOL_FIELD = 'hello.protocol';

/** A name that appears in keys, logs and metric labels. */
const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, '1 to 100 letters, digits and . _ -, the first a letter or digit');

/**
 * Most bytes of a Hello, of the description of a slot, and of those of all GPUs. The limits of the fields are each what a
 * host may need; a host that needs all of them at once is none.
 */
const MAX_BYTES = { hello: 64 * 1024, slot: 8 * 1024, gpus: 64 * 1024 } as const;

const seconds = z.number().min(0).max(86_400);

const slotSchema = z.object({
  slotId: name,
  profile: name,
  declaredSecondsPerClip: seconds,
  warmUpSeconds: seconds,
  memoryBytes: z.number().int().nonnegative(),
  maxUnits: z.number().int().nonnegative(),
  runnerKind: z.string().max(40),
  dtype: z.string().max(40),
  gpus: z.array(z.number().int().nonnegative()).max(64),
  runnerVersions: z
    .record(z.string().max(40), z.string().max(200))
    .refine((versions) => Object.keys(versions).length <= 32, 'at most 32 entries'),
});

const gpuSchema = z.object({
  ...{ index: z.number().int().nonnegative(), memoryBytes: z.number().int().nonnegative() },
  ...{ name: z.string().max(100), uuid: z.string().max(100), trouble: z.string().max(1000) },
  ...{ driver: z.string().max(100), computeCapability: z.string().max(20) },
  throttleReasons: z.array(z.string().max(100)).max(32),
});

const gpusSchema = z.array(gpuSchema).max(64);

const schema = z.object({
  nodeId: name,
  name: label(100).min(1),
  version: label(100),
  pool: label(100),
  slots: z
    .array(slotSchema)
    .min(1)
    .max(64)
    .refine((slots) => new Set(slots.map((slot) => slot.slotId)).size === slots.length, 'slots whose ids differ'),
  gpus: gpusSchema,
  leases: z.array(z.object({ leaseId: z.string().max(100), currentClip: z.number().int().nonnegative() })).max(1000),
  spooledChunks: z.number().int().nonnegative(),
});

/**
 * Checks what an agent says of itself before anything is built on it.
 *
 * @throws FarmError `failed_precondition` for another protocol, `invalid_argument` naming the field otherwise
 */
export function checkHello(hello: Hello): void {
  if (hello.protocol !== PROTOCOL) {
    const message = `the agent speaks protocol ${hello.protocol}, this coordinator ${PROTOCOL}`;
    throw new FarmError('failed_precondition', message, {
      field: PROTOCOL_FIELD,
      hint: 'Run agent and coordinator from the same release.',
    });
  }
  refuseLong('hello', Hello.encode(hello).finish().length);
  refuse(schema.safeParse(hello).error?.issues[0], hello, 'hello');
}

/** Checks what an agent says of a slot. @throws FarmError `invalid_argument` naming the field */
export function checkSlot(slot: SlotInfo): void {
  refuseLong('slot', SlotInfo.encode(slot).finish().length);
  refuse(slotSchema.safeParse(slot).error?.issues[0], slot, 'slot');
}

/** Checks what an agent says of its GPUs. @throws FarmError `invalid_argument` naming the field */
export function checkGpus(gpus: readonly Gpu[]): void {
  refuse(gpusSchema.safeParse(gpus).error?.issues[0], gpus, 'gpus');
  const bytes = gpus.reduce((sum, gpu) => sum + Gpu.encode(gpu).finish().length, 0);
  refuseLong('gpus', bytes);
}

function refuseLong(field: keyof typeof MAX_BYTES, bytes: number): void {
  if (bytes <= MAX_BYTES[field]) return;
  const message = `${field} has ${bytes} bytes; accepted: at most ${MAX_BYTES[field]} bytes`;
  throw new FarmError('invalid_argument', message, {
    field,
    hint: 'Shorten what the node says of its slots and GPUs.',
  });
}

function refuse(issue: z.core.$ZodIssue | undefined, given: unknown, where: string): void {
  if (!issue) return;
  const { field, message } = fieldProblem(issue, given, where);
  const hint = 'Run agent and coordinator from the same release.';
  throw new FarmError('invalid_argument', message, { field, hint });
}

/**
 * Refuses an agent that knows a later leader: whatever it was told here, it would not do.
 *
 * @throws FarmError `unavailable`
 */
export function checkTerm(hello: Pick<Hello, 'farmId' | 'term'>, farmId: string, term: number): void {
  if (hello.farmId !== farmId || hello.term <= term) return;
  const message = `the agent knows term ${hello.term} of this farm, this coordinator leads in term ${term}`;
  throw new FarmError('unavailable', message, {
    field: TERM_FIELD,
    hint: 'Stop the coordinator that is out of date; where an old copy of the journal was restored, restart the agent.',
  });
}

/** What an error says against an agent that wanted to attach; null when it is about something else. */
export function refusalOf(error: unknown): AgentRefusal | null {
  if (!(error instanceof FarmError)) return null;
  if (error.field === TERM_FIELD) return 'term';
  if (error.field === PROTOCOL_FIELD) return 'protocol';
  return error.code === 'invalid_argument' ? 'hello' : null;
}
