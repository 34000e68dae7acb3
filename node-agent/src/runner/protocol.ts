/**
 * The protocol between the agent and a runner process.
 *
 * Transport: a Unix domain socket made by the agent; its path is the runner's `--socket` argument. The runner
 * connects once and ends when the connection closes, whoever closed it, so no runner outlives its agent.
 *
 * Framing: `u32be headerBytes | u32be payloadBytes | header (UTF-8 JSON) | payload`. Only `frames` has a payload.
 */
import { z } from 'zod';

/** Version that both sides must speak. */
export const RUNNER_PROTOCOL = 2;

/** Largest JSON header in bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** Largest payload in bytes: 48 frames of 720x400 in RGB with room to spare. */
export const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024;

/** How an attempt can fail; the same classes as `FailureClass` of the proto, less the ones only a coordinator sees. */
export const runnerErrorClasses = ['out_of_memory', 'device', 'bad_input', 'environment', 'crash', 'hang'] as const;

/** One of {@link runnerErrorClasses}. */
export type RunnerErrorClass = (typeof runnerErrorClasses)[number];

const clip = z.number().int().nonnegative();
const bytes = z.number().int().nonnegative();

/** Versions that a runner may tell. */
const MAX_VERSIONS = 32;

/** What a runner can do beyond rendering a span. */
export const runnerCapabilities = z.object({
  /** The end of a running span can be moved. False for upstream's own command line. */
  setEnd: z.boolean(),
  /** It can keep a model call open after a span and go on in it. */
  continues: z.boolean(),
});

/** See {@link runnerCapabilities}. */
export type RunnerCapabilities = z.infer<typeof runnerCapabilities>;

/**
 * Clips `start` to `end` of a job, in order, out of one model call: one that is open already and has just rendered clip
 * `start - 1`, or a new one that begins `preRoll` clips earlier.
 */
export const spanRequest = z.object({
  leaseId: z.string().min(1),
  jobId: z.string().min(1),
  /** Number of the span within the job. */
  span: z.number().int().nonnegative(),
  start: clip,
  end: clip,
  /** Clips that a new model call renders before `start`; 0 only when `start` is 0. */
  preRoll: clip,
  /**
   * Lease whose model call this one goes on in: this runner's last one of the same job, with `end` equal to this
   * `start` and the same size, steps, seed and prompt. The reference doesn't count: a call that began with the portrait
   * goes on when the job has its anchor. A runner that has the call open no longer, or whose call would get too long,
   * begins a new one. Null: a new one.
   */
  continues: z.string().min(1).nullable(),
  /** Clips of the whole job. */
  clips: clip,
  /** Picture size in pixels. */
  width: z.number().int().positive(),
  height: z.number().int().positive(),
  sampleSteps: z.number().int().min(1).max(4),
  /** Seed of clip 0; clip r uses `baseSeed + r`. */
  baseSeed: z.number().int().nonnegative(),
  prompt: z.string(),
  /** PNG of exactly width x height: the anchor where the job has one, otherwise the prepared portrait. */
  referencePath: z.string(),
  /** True when `referencePath` is the job's anchor. */
  anchored: z.boolean(),
  /** 16 kHz mono PCM WAV of the whole job. */
  audioPath: z.string(),
});

/** See {@link spanRequest}. */
export type SpanRequest = z.infer<typeof spanRequest>;

/** Agent to runner. */
export const toRunner = z.discriminatedUnion('type', [
  /** Load the model; answered by `loading`… and `loaded` or `error`. */
  z.object({ type: z.literal('load') }),
  /** Render a span; answered by `spanStarted`, then `progress`, `frames`, `clip`… and `spanEnded`; or `error`. One at a time. */
  z.object({ type: z.literal('render'), request: spanRequest }),
  /** Move the end of the running span: at most the job's clips; an end already passed stops after the clip in hand. */
  z.object({ type: z.literal('setEnd'), leaseId: z.string(), end: clip }),
  /** Stop at once; answered by `spanEnded` with reason `cancelled`. */
  z.object({ type: z.literal('cancel'), leaseId: z.string() }),
  /** Give all memory of the model back; answered by `unloaded`. Between spans; `load` may follow. */
  z.object({ type: z.literal('unload') }),
  /** Leave. */
  z.object({ type: z.literal('shutdown') }),
]);

/** See {@link toRunner}. */
export type ToRunner = z.infer<typeof toRunner>;

/** Runner to agent. */
export const fromRunner = z.discriminatedUnion('type', [
  /** First message. */
  z.object({
    type: z.literal('hello'),
    protocol: z.number().int(),
    runner: z.string(),
    version: z.string(),
    pid: z.number().int(),
    capabilities: runnerCapabilities,
    /** By name: python, torch, cuda, gpu, upstream and the like. */
    versions: z
      .record(z.string().min(1).max(40), z.string().max(200))
      .refine((versions) => Object.keys(versions).length <= MAX_VERSIONS, `at most ${MAX_VERSIONS} versions`),
  }),
  z.object({ type: z.literal('loading'), phase: z.string(), fraction: z.number().min(0).max(1) }),
  /** `memoryBytes`: in use on the most loaded GPU. */
  z.object({ type: z.literal('loaded'), seconds: z.number().nonnegative(), memoryBytes: bytes }),
  /** `memoryBytes`: what the process still holds on the most loaded GPU. */
  z.object({ type: z.literal('unloaded'), memoryBytes: bytes }),
  /**
   * First answer to `render`. `continued`: in the open model call, without pre-roll and without loss, so that `produced`
   * 0 is the first frame of clip `start`. Otherwise `produced` counts from the start of a new call over `preRoll` clips
   * and those of the span, the first three frames of which never appear.
   */
  z.object({ type: z.literal('spanStarted'), leaseId: z.string(), continued: z.boolean() }),
  /** Share of the clip in hand that is done. Sent at least every block of 12 frames. */
  z.object({ type: z.literal('progress'), leaseId: z.string(), clip, fraction: z.number().min(0).max(1) }),
  /**
   * `count` frames in RGB, 8 bits a channel, row by row. `produced` is the index of the first of them, counted as
   * `spanStarted` said; the agent maps it to frames of the job.
   */
  z.object({
    type: z.literal('frames'),
    leaseId: z.string(),
    produced: z.number().int().nonnegative(),
    count: z.number().int().positive(),
  }),
  /** Every frame of this clip was sent. */
  z.object({
    type: z.literal('clip'),
    leaseId: z.string(),
    clip,
    renderSeconds: z.number().nonnegative(),
    /**
     * Most that the model call has needed on the most loaded GPU since it began, the driver's own included; 0 without a
     * GPU. What an allocator only holds in reserve is left out by runners that can tell.
     */
    peakMemoryBytes: bytes,
    /**
     * The same with what an allocator holds in reserve, which is what nvidia-smi shows; on a card with room to spare it can be
     * much more. Absent where the runner can't tell them apart.
     */
    reservedMemoryBytes: bytes.optional(),
    /** Resident memory of the runner on the host, all its processes. */
    hostBytes: bytes,
  }),
  /**
   * The span is over; `end` is one past the last whole clip. Unless it was cancelled, a runner that `continues` keeps
   * the call open: until another `render`, `load` or `unload`, or for as long as it chooses.
   */
  z.object({
    type: z.literal('spanEnded'),
    leaseId: z.string(),
    reason: z.enum(['completed', 'stopped', 'cancelled']),
    end: clip,
  }),
  /** The attempt (or, without a lease, the runner) failed. After `device` and `crash` the runner must be restarted. */
  z.object({
    type: z.literal('error'),
    leaseId: z.string().optional(),
    class: z.enum(runnerErrorClasses),
    message: z.string(),
    /** Evidence, such as `neededBytes`, `freeBytes`, `clip`. */
    numbers: z.record(z.string(), z.number()).optional(),
  }),
]);

/** See {@link fromRunner}. */
export type FromRunner = z.infer<typeof fromRunner>;
