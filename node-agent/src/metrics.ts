import type { Gpu } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { AttemptFailureClass, LeaseOutcome } from './lease-machine.ts';
import type { OutboxVerdict } from './outbox.ts';
import type { UnloadOutcome } from './runner-host.ts';

/** Seconds: from a synthetic clip to one on the slowest profile. */
const CLIP_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 600];

/** Seconds: encoding beyond the last frame. */
const ENCODE_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30];

const linkRefusals = ['coordinator_term', 'agent_term', 'hello'] as const;
/** `unloaded`: idle, and its model has to be loaded for the next lease. */
const slotStates = ['idle', 'unloaded', 'loading', 'rendering', 'recovering', 'draining'] as const;
const unloadOutcomes: readonly UnloadOutcome[] = ['given_back', 'ended'];
/** `displaced`: made for a farm that did not lead, and deleted because its room was needed. */
const verdicts: readonly (OutboxVerdict | 'displaced')[] = [
  ...(['committed', 'not_wanted', 'rejected', 'corrupt'] as const),
  'displaced',
];
const outcomes: readonly LeaseOutcome['reason'][] = ['completed', 'stopped', 'failed', 'refused'];
const failureClasses: readonly AttemptFailureClass[] = [
  ...(['out_of_memory', 'hang', 'device', 'crash', 'bad_input', 'environment'] as const),
  'bad_chunk',
];

/**
 * Why there is no link, where one side refused the other. `coordinator_term`: the agent knows a later term than the
 * coordinator, and refused it; `agent_term`: the same, and the coordinator refused first; `hello`: the coordinator does
 * not accept what the agent says of itself, or its protocol.
 */
export type LinkRefusal = (typeof linkRefusals)[number];

/** What gauges show; read at every scrape. */
export interface AgentGauges {
  readonly connected: boolean;
  readonly slots: readonly (typeof slotStates)[number][];
  readonly spooledChunks: number;
  readonly foreignChunks: number;
  readonly spoolBytes: number;
  readonly gpus: readonly Gpu[];
}

/** The agent's metrics; see {@link createAgentMetrics}. */
export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

/** Registers every metric of an agent in a registry of its own. Labels have closed sets of values, never ids or text. */
export function createAgentMetrics(read: () => AgentGauges) {
  const registry = new Registry();
  const registers = [registry];
  const name = (text: string): string => `clipfarm_agent_${text}`;
  const counter = <L extends string = never>(text: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: name(`${text}_total`), help, labelNames, registers });
  const gauge = <L extends string = never>(text: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: name(text), help, labelNames, registers });

  const connected = gauge('connected', '1 while a coordinator has welcomed this agent, otherwise 0.');
  const slots = gauge('slots', 'Slots of this host, by state.', ['state']);
  const spooledChunks = gauge('spooled_chunks', 'Chunks that are rendered but not judged by the coordinator.');
  const foreignChunks = gauge(
    'spooled_foreign_chunks',
    'Those of them that wait for another farm than the one that leads.',
  );
  const spoolBytes = gauge('spool_bytes', 'Bytes of the files in the spool.');
  const gpuUsable = gauge('gpu_usable', '1 while the GPU can be used, otherwise 0.', ['gpu']);
  const gpuMemory = gauge('gpu_memory_used_bytes', 'Memory of the GPU that is in use, by whomever.', ['gpu']);
  const gpuTemperature = gauge('gpu_temperature_celsius', 'Temperature of the GPU.', ['gpu']);
  const gpuThrottled = gauge('gpu_throttled', '1 while heat, power or a brake slows the GPU down, otherwise 0.', [
    'gpu',
  ]);
  const gpuErrors = gauge('gpu_uncorrected_errors', 'Memory errors of the GPU that could not be corrected.', ['gpu']);
  const clips = counter(
    'clips_rendered',
    'Clips of which the runner has rendered every frame, pre-roll counted apart.',
    ['pre_roll'],
  );
  const leases = counter('leases', 'Leases that ended, by how they ended.', ['outcome']);
  const failures = counter('attempt_failures', 'Attempts that failed, by failure class.', ['class']);
  const judged = counter('chunks', 'Chunks that left the spool, by verdict.', ['verdict']);
  const inputs = counter('input_lookups', 'Uses of an input, by whether it was in the cache.', ['result']);
  // Series exist from the start, so that a first event shows as a rise.
  const linksRefused = counter(
    'links_refused',
    'Links refused: a coordinator whose term is over, by this agent; this agent, for its term or its Hello.',
    ['reason'],
  );
  for (const reason of linkRefusals) linksRefused.inc({ reason }, 0);
  const modelsUnloaded = counter(
    'models_unloaded',
    'Models that were unloaded for want of work, by whether the runner gave the memory back or had to be ended.',
    ['outcome'],
  );
  for (const outcome of unloadOutcomes) modelsUnloaded.inc({ outcome }, 0);
  for (const preRoll of ['true', 'false']) clips.inc({ pre_roll: preRoll }, 0);
  for (const outcome of outcomes) leases.inc({ outcome }, 0);
  for (const failureClass of failureClasses) failures.inc({ class: failureClass }, 0);
  for (const verdict of verdicts) judged.inc({ verdict }, 0);
  for (const result of ['hit', 'miss']) inputs.inc({ result }, 0);

  return {
    peakMemory: gauge('gpu_peak_memory_bytes', 'Most GPU memory that the latest model call has needed.', ['slot']),
    reservedMemory: gauge(
      'gpu_reserved_memory_bytes',
      'The same with what its allocator holds in reserve; 0 where the runner can not tell.',
      ['slot'],
    ),
    hostMemory: gauge('runner_host_memory_bytes', 'Memory of the runner on the host at its latest clip.', ['slot']),
    clips,
    leases,
    failures,
    judged,
    inputs,
    linksRefused,
    modelsUnloaded,
    voidMessages: counter('void_messages', 'Messages that were ignored because their term is over.'),
    farmChanges: counter('farm_changes', 'Welcomes by another farm than the one before.'),
    reconnects: counter('links_lost', 'Connections to a coordinator that broke after its Welcome.'),
    runnersGone: counter('runners_gone', 'Loaded runner processes that ended, wanted or not.'),
    clipSeconds: new Histogram({
      ...{ name: name('clip_render_seconds'), help: 'Time to render one clip, pre-roll included.', registers },
      buckets: CLIP_BUCKETS,
    }),
    encodeSeconds: new Histogram({
      ...{
        name: name('clip_encode_seconds'),
        help: 'Time from the last frame of a clip to the spooled chunk.',
        registers,
      },
      buckets: ENCODE_BUCKETS,
    }),
    /** Content type of {@link render}. */
    contentType: registry.contentType,
    /** All metrics in Prometheus' text format. */
    render(): Promise<string> {
      const now = read();
      connected.set(now.connected ? 1 : 0);
      for (const state of slotStates) slots.set({ state }, now.slots.filter((slot) => slot === state).length);
      spooledChunks.set(now.spooledChunks);
      foreignChunks.set(now.foreignChunks);
      spoolBytes.set(now.spoolBytes);
      for (const found of now.gpus) {
        const labels = { gpu: String(found.index) };
        gpuUsable.set(labels, found.trouble === '' ? 1 : 0);
        gpuMemory.set(labels, found.memoryUsedBytes);
        gpuTemperature.set(labels, found.temperatureCelsius);
        gpuThrottled.set(labels, found.throttleReasons.length > 0 ? 1 : 0);
        gpuErrors.set(labels, found.uncorrectedErrors);
      }
      return registry.metrics();
    },
  };
}
