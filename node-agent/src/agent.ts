import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type {
  AgentServiceClient,
  ChunkAck,
  ChunkVerdict,
  Grant,
  Heartbeat,
  Hello,
  Welcome,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { type SlotInfo, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { GpuReading } from '@clipfarm/shared/gpu/nvidia-smi';
import type { Logger } from '@clipfarm/shared/log';
import { fetchInput, uploadArtifact } from './artifact-client.ts';
import type { ClipFigures } from './clip-pipeline.ts';
import { DiskGuard } from './disk-guard.ts';
import { GpuWatch } from './gpu/gpu-watch.ts';
import type { GpuHealth } from './gpu/health.ts';
import { InputCache } from './input-cache.ts';
import type { LeaseOutcome } from './lease-machine.ts';
import { LeaseReports, leaseEnded } from './lease-report.ts';
import { type LeaseTask, leaseTaskFromGrant } from './lease-task.ts';
import { Link } from './link.ts';
import type { FromCoordinator, ToCoordinator } from './link-session.ts';
import { LoadGate } from './load-gate.ts';
import { type AgentMetrics, createAgentMetrics } from './metrics.ts';
import { OperatorLog } from './operator-log.ts';
import { fieldsOf, Outbox, type OutboxVerdict } from './outbox.ts';
import type { RunnerProfile } from './profile.ts';
import { Slot } from './slot.ts';
import { describe, type Spool, type SpoolEntry } from './spool.ts';

/** What an {@link Agent} is made of. */
export interface AgentOptions {
  readonly nodeId: string;
  readonly name: string;
  readonly pool: string;
  readonly version: string;
  /** GPUs of the host as they were just read. */
  readonly gpus: readonly GpuReading[];
  /** Seconds that the host is up. */
  readonly uptime: number;
  /** How each slot runs the model. */
  readonly profiles: readonly RunnerProfile[];
  /** `host:port` of every coordinator. */
  readonly coordinators: readonly string[];
  readonly dial: (address: string) => AgentServiceClient;
  readonly spool: Spool;
  readonly cache: { readonly dir: string; readonly maxBytes: number };
  /** Directory for the sockets of runners; its path must be short. */
  readonly socketDir: string;
  /** Path or name of ffmpeg. */
  readonly ffmpeg: string;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
}

/** Version of the protocol with the coordinator. */
const PROTOCOL = 1;

/** Least milliseconds between two reports of progress within one clip. */
const PROGRESS_MILLIS = 500;

/** Milliseconds without a link, or without an answer, after which a leaving agent keeps its spool for the next start. */
const HAND_IN_MILLIS = 15_000;

/** pino's number for warnings. */
const WARN_LEVEL = 40;

/** Milliseconds that a runner gets to end by itself. */
const RUNNER_GRACE_MILLIS = 3000;

const verdictOf: { readonly [V in ChunkVerdict]: OutboxVerdict | 'try_again' | null } = {
  CHUNK_VERDICT_UNSPECIFIED: null,
  CHUNK_VERDICT_COMMITTED: 'committed',
  CHUNK_VERDICT_NOT_WANTED: 'not_wanted',
  CHUNK_VERDICT_REJECTED: 'rejected',
  CHUNK_VERDICT_TRY_AGAIN: 'try_again',
};

const gaugeState = {
  SLOT_STATE_UNSPECIFIED: 'recovering',
  SLOT_STATE_IDLE: 'idle',
  SLOT_STATE_LOADING: 'loading',
  SLOT_STATE_RENDERING: 'rendering',
  SLOT_STATE_RECOVERING: 'recovering',
  SLOT_STATE_DRAINING: 'draining',
} as const satisfies { readonly [S in SlotState]: string };

/**
 * The agent of one host: connects the link with the slots and the spool, and leaves in order. Everything that the
 * coordinator may repeat, and everything that may get lost with a connection, is made harmless here.
 */
export class Agent {
  readonly metrics: AgentMetrics;
  readonly #options: AgentOptions;
  readonly #link: Link;
  readonly #outbox: Outbox;
  readonly #slots: readonly Slot[];
  readonly #gpus: GpuWatch;
  readonly #disk: DiskGuard;
  readonly #reports = new LeaseReports();
  readonly #operatorLog: OperatorLog;
  readonly #progress = new Map<string, { readonly clip: number; readonly at: number }>();
  readonly #left = Promise.withResolvers<void>();
  /** What the Hello under way says of the slots. */
  #greeted: readonly SlotInfo[] = [];
  #freeBytes = 0;
  #graceMillis: number | null = null;
  #graceTimer: Timer | null = null;
  #leaving: string | null = null;

  private constructor(options: AgentOptions, inputs: InputCache) {
    this.#options = options;
    const { clock, random, log, spool } = options;
    this.metrics = createAgentMetrics(() => ({
      connected: this.#link.connected,
      slots: this.#slots.map((slot) => (slot.unloaded ? 'unloaded' : gaugeState[slot.status.state])),
      spooledChunks: spool.chunkCount,
      foreignChunks: spool.foreignChunkCount,
      spoolBytes: spool.bytes,
      gpus: this.#gpus.gpus,
    }));
    this.#link = new Link({
      ...{ clock, random, log, metrics: this.metrics, addresses: options.coordinators, dial: options.dial },
      hello: () => this.#hello(),
      heartbeat: () => this.#heartbeat(),
      onWelcome: (welcome) => this.#welcomed(welcome),
      onMessage: (message) => this.#take(message),
      onDisconnected: (reason) => this.#disconnected(reason),
    });
    this.#operatorLog = new OperatorLog({
      send: (value) => this.#link.sendReplaceable({ $case: 'log', value }),
      now: () => this.#now(),
    });
    this.#outbox = new Outbox({
      ...{ clock, random, log, spool },
      upload: (entry, signal) => uploadArtifact(this.#link.client(), entry, signal, log),
      offer: (entry) => this.#link.send(offerOf(entry)),
      onVerdict: (entry, verdict, reason) => this.#judged(entry, verdict, reason),
    });
    this.#gpus = new GpuWatch({ ...options, onHealth: (health) => this.#judgeSlots(health) });
    this.#disk = new DiskGuard({
      ...{ clock, log, makeRoom: (bytes) => spool.makeRoom(bytes) },
      onChange: () => this.#tellStatus(),
    });
    const gate = new LoadGate(options.profiles);
    this.#slots = options.profiles.map((profile, i) => this.#newSlot(`slot-${i + 1}`, profile, inputs, gate));
  }

  /**
   * Opens the input cache, loads the runners and begins to dial.
   *
   * @throws FarmError when the disk refuses.
   */
  static async start(options: AgentOptions): Promise<Agent> {
    const inputs = await InputCache.open({
      ...options.cache,
      fetch: (jobId, sha256, signal) => fetchInput(agent.#link.client(), jobId, sha256, signal),
      onLookup: (result) => agent.metrics.inputs.inc({ result }),
      now: () => options.clock.now(),
      log: options.log,
    });
    const agent = new Agent(options, inputs);
    for (const slot of agent.#slots) slot.warmUp();
    agent.#link.start();
    return agent;
  }

  /** Resolves when the agent has left, see {@link leave}. */
  get left(): Promise<void> {
    return this.#left.promise;
  }

  /** True from {@link leave} on. */
  get leaving(): boolean {
    return this.#leaving !== null;
  }

  /** Why the agent can't take work now; empty when it can. */
  get obstacles(): readonly string[] {
    const idleOrBusy = this.#slots.some((slot) => slot.status.state !== SlotState.SLOT_STATE_RECOVERING);
    return [
      ...(this.#leaving === null ? [] : [`leaving: ${this.#leaving}`]),
      ...(this.#link.connected ? [] : ['no link to a coordinator']),
      ...(idleOrBusy ? [] : ['no slot is usable']),
    ];
  }

  /** Finishes the clips in hand, hands in the spool, hands back the rest, closes everything. A repeat does nothing. */
  leave(reason: string): void {
    if (this.#leaving !== null) return;
    this.#leaving = reason;
    this.#options.log.info({ reason }, 'leaving after the clip in hand');
    this.#leave(reason).then(this.#left.resolve, this.#left.reject);
  }

  /** Makes the models of all slots without a lease give their memory back until their next lease. */
  unload(reason: string): void {
    const found = this.#slots.map((slot) => ({ slotId: slot.info.slotId, why: slot.unload(reason) }));
    const unloaded = found.flatMap(({ slotId, why }) => (why === null ? [slotId] : []));
    const kept = found.flatMap(({ slotId, why }) => (why === null ? [] : [`${slotId}: ${why}`]));
    this.#options.log.info(
      { reason, slots_unloading: unloaded, slots_left_as_they_are: kept },
      'slots without a lease unload their models',
    );
  }

  /** Kills runners and encoders at once; for a process that exits right after. */
  kill(): void {
    for (const slot of this.#slots) slot.kill();
  }

  async #leave(reason: string): Promise<void> {
    const { spool, log } = this.#options;
    for (const slot of this.#slots) slot.refuse(`the agent is leaving: ${reason}`);
    // Ahead of the end of any lease, or the slot that it leaves would be given the next one.
    this.#tellStatus();
    for (const slot of this.#slots) slot.stop(reason);
    this.#graceTimer?.cancel();
    this.#gpus.close();
    this.#disk.close();
    const over = new AbortController();
    const handedIn = async (): Promise<void> => {
      await Promise.all(this.#slots.map((slot) => slot.whenIdle()));
      await this.#outbox.whenEmpty(HAND_IN_MILLIS, over.signal);
    };
    await Promise.race([handedIn(), this.#cutOff(over.signal)]);
    over.abort();
    if (this.#outbox.size > 0) {
      log.warn({ files: this.#outbox.size }, 'files stay in the spool and are handed in at the next start');
    }
    this.#link.send({ $case: 'goodbye', value: { reason } });
    await this.#link.close();
    await Promise.all(this.#slots.map((slot) => slot.close(RUNNER_GRACE_MILLIS)));
    log.info({ spooled_chunks: spool.chunkCount }, 'left');
  }

  /** Resolves when nothing is rendered and there was no link for {@link HAND_IN_MILLIS}. */
  async #cutOff(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    let since = clock.monotonic();
    while (!signal.aborted && clock.monotonic() - since < HAND_IN_MILLIS) {
      await new Promise<void>((resolve) => clock.setTimeout(resolve, 250));
      if (this.#link.connected || this.#slots.some((slot) => slot.rendering)) since = clock.monotonic();
    }
  }

  /** Takes slots out whose GPUs can't be used, and lets them work again. */
  #judgeSlots({ gpus, troubles }: GpuHealth): void {
    const byIndex = new Map(gpus.map(({ index, uuid }) => [index, troubles.get(uuid)]));
    for (const slot of this.#slots) {
      const found = slot.info.gpus.flatMap((index) => byIndex.get(index) ?? []);
      slot.judgeGpus(found.length === 0 ? null : found.join('; '));
    }
    this.#tellStatus();
  }

  #newSlot(slotId: string, profile: RunnerProfile, inputs: InputCache, gate: LoadGate): Slot {
    const { socketDir, ffmpeg, spool, clock, random } = this.#options;
    const log = this.#options.log.child({ slot_id: slotId });
    return new Slot({
      ...{
        slotId,
        profile,
        gate,
        socketDir,
        ffmpeg,
        spool,
        outbox: this.#outbox,
        inputs,
        disk: this.#disk,
        clock,
        random,
        log,
      },
      events: {
        ended: (lease, outcome, clip) => this.#leaseEnded(lease, outcome, clip, log),
        progress: (leaseId, clip, fraction) => this.#progressed(slotId, leaseId, clip, fraction),
        clipRendered: (lease, clip, figures) => this.#clipRendered(slotId, lease, clip, figures),
        spooled: (seconds) => this.metrics.encodeSeconds.observe(seconds),
        runnerGone: () => this.metrics.runnersGone.inc(),
        unloaded: (outcome) => this.metrics.modelsUnloaded.inc({ outcome }),
        changed: (slot) => {
          // The state goes ahead: what changed is a reason to schedule.
          this.#tellStatus();
          this.#link.send({ $case: 'slotChanged', value: { slot } });
        },
      },
    });
  }

  #hello(): Omit<Hello, 'term' | 'farmId'> {
    const { nodeId, name, pool, version, spool } = this.#options;
    this.#greeted = this.#slots.map((slot) => slot.info);
    return {
      ...{ nodeId, name, pool, version, protocol: PROTOCOL, gpus: [...this.#gpus.gpus] },
      slots: [...this.#greeted],
      leases: this.#slots.flatMap((slot) => slot.held),
      spooledChunks: spool.chunkCount - spool.foreignChunkCount,
    };
  }

  async #heartbeat(): Promise<Heartbeat> {
    this.#freeBytes = await this.#options.spool.freeBytes();
    return { ...this.#status(), gpus: [...this.#gpus.takeFresh()] };
  }

  #status(): Heartbeat {
    const { spool } = this.#options;
    return {
      slots: this.#slots.map((slot) => slot.status),
      spooledChunks: spool.chunkCount - spool.foreignChunkCount,
      spoolFreeBytes: this.#freeBytes,
      gpus: [],
    };
  }

  #welcomed({ graceMillis, validLeaseIds }: Welcome): void {
    this.#graceMillis = graceMillis;
    this.#graceTimer?.cancel();
    this.#serve(this.#link.farmId);
    this.#tellStatus();
    // A runner that was loaded since the Hello could not be told of until now.
    for (const [i, { info }] of this.#slots.entries()) {
      if (!isDeepStrictEqual(info, this.#greeted[i])) this.#link.send({ $case: 'slotChanged', value: { slot: info } });
    }
    // Chunks first: what is committed need not be given to anybody else.
    this.#outbox.connected();
    const valid = new Set(validLeaseIds);
    for (const slot of this.#slots) {
      for (const { leaseId } of slot.held) {
        if (!valid.has(leaseId)) slot.revoke(leaseId, 'the coordinator gave the lease up while there was no contact');
      }
    }
    for (const value of this.#reports.connected(this.#now())) this.#link.send({ $case: 'leaseEnded', value });
  }

  /** Keeps what was made for other farms apart from what is handed in to this one. */
  #serve(farmId: string): void {
    const { spool, log } = this.#options;
    spool.serve(farmId, (entry) => {
      const fields = { ...fieldsOf(entry), farm_id: entry.manifest.farmId };
      log.warn(fields, `${entry.manifest.kind} of another farm deleted: its room is needed`);
      if (entry.manifest.kind === 'chunk') this.metrics.judged.inc({ verdict: 'displaced' });
    });
    const chunks = spool.foreignChunkCount;
    if (chunks > 0) log.info({ farm_id: farmId, chunks }, 'chunks of other farms stay in the spool until those lead');
  }

  #disconnected(reason: string): void {
    this.metrics.reconnects.inc();
    this.#outbox.disconnected();
    this.#reports.disconnected(this.#now());
    const millis = this.#graceMillis;
    if (millis === null || this.#leaving !== null) return;
    this.#graceTimer = this.#options.clock.setTimeout(() => {
      const text = `out of grace: no contact for ${millis / 1000} s (${reason})`;
      this.#options.log.warn({ reason: text }, 'slots stop after the clip in hand');
      for (const slot of this.#slots) slot.stop(text);
    }, millis);
  }

  #take(message: Exclude<FromCoordinator, { $case: 'welcome' }>): void {
    switch (message.$case) {
      case 'grant':
        this.#granted(message.value);
        break;
      case 'shrink':
        for (const slot of this.#slots) slot.shrink(message.value.leaseId, message.value.end);
        break;
      case 'revoke':
        for (const slot of this.#slots) slot.revoke(message.value.leaseId, message.value.reason || 'revoked');
        break;
      case 'chunkAck':
        this.#acknowledged(message.value);
        break;
      case 'anchorAck': {
        const { jobId, accepted, reason } = message.value;
        void this.#outbox.anchorJudged(jobId, accepted ? 'committed' : 'rejected', reason);
        break;
      }
    }
  }

  #granted(grant: Grant): void {
    const { leaseId, slotId } = grant;
    const ended = this.#reports.find(leaseId);
    if (ended !== undefined) {
      this.#link.send({ $case: 'leaseEnded', value: ended });
      return;
    }
    const { log } = this.#options;
    try {
      const lease = leaseTaskFromGrant(grant, this.#link.farmId);
      const slot = this.#slots.find(({ info }) => info.slotId === slotId);
      if (slot === undefined) throw new FarmError('not_found', `this node has no slot "${slotId}"`);
      const { jobId, start, end, preRoll } = lease;
      log.info({ job_id: jobId, lease_id: leaseId, slot_id: slotId, start, end, pre_roll: preRoll }, 'lease granted');
      slot.grant(lease);
    } catch (error) {
      this.#leaseEnded(grant, { reason: 'refused', message: FarmError.from(error).message }, grant.start, log);
    }
  }

  #acknowledged({ leaseId, clip, verdict, reason }: ChunkAck): void {
    const known = verdictOf[verdict];
    if (known === 'try_again') this.#outbox.tryAgain({ leaseId, clip }, reason);
    else if (known !== null) void this.#outbox.judged({ leaseId, clip }, known, reason);
  }

  #judged(entry: SpoolEntry, verdict: OutboxVerdict, reason: string): void {
    const { manifest } = entry;
    const fields = { ...fieldsOf(entry), verdict, ...(reason === '' ? {} : { reason }) };
    const well = verdict === 'committed' || verdict === 'not_wanted';
    this.#options.log[well ? 'info' : 'warn'](fields, well ? `${manifest.kind} handed in` : `${manifest.kind} lost`);
    if (manifest.kind === 'chunk') this.metrics.judged.inc({ verdict });
    if (well) return;
    const text = `${describe(manifest)} was lost: ${verdict}: ${reason}`;
    this.#operatorLog.tell(WARN_LEVEL, text, manifest.leaseId);
    const failureClass = verdict === 'rejected' ? 'bad_chunk' : 'environment';
    if (manifest.kind === 'anchor') return;
    for (const slot of this.#slots) slot.chunkLost(manifest.leaseId, failureClass, text);
  }

  #progressed(slotId: string, leaseId: string, clip: number, fraction: number): void {
    const before = this.#progress.get(slotId);
    const at = this.#now();
    if (before !== undefined && before.clip === clip && at - before.at < PROGRESS_MILLIS) return;
    this.#progress.set(slotId, { clip, at });
    this.#link.sendReplaceable({ $case: 'progress', value: { leaseId, clip, fraction } });
  }

  #clipRendered(slotId: string, { jobId, leaseId, start }: LeaseTask, clip: number, figures: ClipFigures): void {
    const preRoll = clip < start;
    this.metrics.clips.inc({ pre_roll: String(preRoll) });
    this.metrics.clipSeconds.observe(figures.renderSeconds);
    this.metrics.peakMemory.set({ slot: slotId }, figures.peakMemoryBytes);
    this.metrics.reservedMemory.set({ slot: slotId }, figures.reservedMemoryBytes);
    this.metrics.hostMemory.set({ slot: slotId }, figures.hostBytes);
    const fields = { slot_id: slotId, job_id: jobId, lease_id: leaseId, clip, pre_roll: preRoll };
    this.#options.log.debug(fields, 'clip rendered');
  }

  #leaseEnded(lease: Pick<LeaseTask, 'leaseId' | 'jobId'>, outcome: LeaseOutcome, clip: number, log: Logger): void {
    const value = leaseEnded(lease, outcome, clip);
    const { reason } = outcome;
    this.metrics.leases.inc({ outcome: reason });
    const fields = { job_id: lease.jobId, lease_id: lease.leaseId, clip, outcome: reason };
    // The slot's state goes ahead, so that it gets no new lease while it recovers, or has no disk to work with.
    if (reason !== 'completed') this.#tellStatus();
    if (outcome.reason === 'failed') {
      this.metrics.failures.inc({ class: outcome.failureClass });
      log.warn({ ...fields, class: outcome.failureClass, reason: outcome.message }, 'lease failed');
      this.#operatorLog.tell(WARN_LEVEL, `lease failed (${outcome.failureClass}): ${outcome.message}`, lease.leaseId);
    } else log.info({ ...fields, ...(value.message === '' ? {} : { reason: value.message }) }, 'lease ended');
    this.#reports.add(value, this.#link.send({ $case: 'leaseEnded', value }), this.#now());
  }

  /** Tells the states of the slots now and in order, because what is sent next depends on them. */
  #tellStatus(): void {
    this.#link.send({ $case: 'heartbeat', value: this.#status() });
  }

  #now(): number {
    return this.#options.clock.monotonic();
  }
}

/** The message that offers a spooled file. */
function offerOf({ manifest }: SpoolEntry): ToCoordinator {
  const { jobId, leaseId, sha256, bytes } = manifest;
  if (manifest.kind === 'anchor') return { $case: 'anchorReady', value: { jobId, leaseId, sha256, bytes } };
  const { clip, frames, renderSeconds, span, peakMemoryBytes, reservedMemoryBytes, hostBytes } = manifest;
  const figures = { renderSeconds, peakMemoryBytes, reservedMemoryBytes, hostBytes };
  return {
    $case: 'chunkReady',
    value: { manifest: { jobId, leaseId, clip, sha256, bytes, frames, span, ...figures } },
  };
}
