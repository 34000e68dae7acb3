import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import {
  AgentServiceService,
  type ArtifactHeader,
  type AttachRequest,
  type AttachResponse,
  type ChunkManifest,
  type ChunkVerdict,
  Grant,
  type Hello,
  type LeaseEnded,
  type PrepareUploadRequest,
  type PrepareUploadResponse,
  type PresignedUpload,
  type SlotStatus,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { SlotInfo, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { createLogger } from '@clipfarm/shared/log';
import { rpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { createFarmServer, listen } from '@clipfarm/shared/rpc/server';
import type { MessageSink } from '@clipfarm/shared/rpc/sink';
import { readUpload } from '@clipfarm/shared/rpc/stream';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

type Sent = NonNullable<AttachRequest['message']>;
type Answer = NonNullable<AttachResponse['message']>;

/** Fields of a grant that tests set; the rest are defaults. */
export type GrantFields = Parameters<typeof Grant.fromPartial>[0];

/** A coordinator that does what a test says, on a real server. It survives {@link FakeCoordinator.down} and `up`. */
export class FakeCoordinator implements AsyncDisposable {
  /** Everything that agents said, over all connections. */
  readonly said: Sent[] = [];
  /** Uploaded content by SHA-256. */
  readonly uploads = new Map<string, Buffer>();
  /** Content of inputs by SHA-256. */
  readonly inputs = new Map<string, Buffer>();
  /** Inputs that were fetched, in order. */
  readonly fetched: string[] = [];
  /** Latest progress by lease. */
  readonly progress = new Map<string, number>();
  /** Leases that a Welcome confirms. */
  readonly valid = new Set<string>();
  /** Verdict on a chunk; null leaves the offer unanswered. */
  judge: (manifest: ChunkManifest) => keyof typeof ChunkVerdict | null = () => 'CHUNK_VERDICT_COMMITTED';
  /** Hellos are answered once this is settled. */
  ready: Promise<void> = Promise.resolve();
  /** Where a file is to be sent; null: here. */
  presign: (header: ArtifactHeader) => PresignedUpload | null = () => null;
  term = 1;
  farmId = 'farm-1';
  graceMillis = 60_000;
  /** Set: this coordinator follows, and sends whoever attaches to the leader at that address. */
  leader: string | null = null;
  /** Set: what a Hello is refused with. */
  refusal: FarmError | null = null;
  /** Agents that were sent to the leader. */
  redirects = 0;
  #server: Server | null = null;
  #port = 0;
  #sink: MessageSink<AttachResponse> | null = null;
  /** Chunks that were offered without an answer. */
  readonly #open: ChunkManifest[] = [];

  static async start(): Promise<FakeCoordinator> {
    const coordinator = new FakeCoordinator();
    await coordinator.up();
    return coordinator;
  }

  /** `host:port`; the same after {@link down} and {@link up}. */
  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /**
   * Begins to listen. While it was down, anybody may have been given its port for a moment, an agent that dials it above
   * all: a connection between a port and itself is one that TCP allows.
   *
   * @param onTaken called each time that the port is somebody else's
   */
  async up(onTaken: () => void = () => {}): Promise<void> {
    const deadline = Date.now() + PATIENCE_SECONDS * 1000;
    for (;;) {
      try {
        return await this.#listen();
      } catch (error) {
        if (FarmError.from(error).code !== 'failed_precondition' || Date.now() >= deadline) throw error;
        onTaken();
        await sleep(20);
      }
    }
  }

  async #listen(): Promise<void> {
    const handlers = rpcHandlers(createLogger({ name: 'fake', level: 'silent' }));
    const server = createFarmServer({ token: undefined });
    server.addService(AgentServiceService, {
      attach: handlers.bidi<AttachRequest, AttachResponse>((requests, sink) => this.#attach(requests, sink)),
      fetchInput: handlers.serverStream<{ readonly sha256: string }, { readonly data: Buffer }>(
        async ({ sha256 }, sink) => {
          this.fetched.push(sha256);
          const content = this.inputs.get(sha256);
          assert.ok(content, `no input ${sha256}`);
          for (let at = 0; at < content.length; at += 65_536) {
            await sink.send({ data: content.subarray(at, at + 65_536) });
          }
        },
      ),
      prepareUpload: handlers.unary<PrepareUploadRequest, PrepareUploadResponse>(({ header }) => {
        assert.ok(header);
        const value = this.presign(header);
        return { way: value === null ? { $case: 'viaCoordinator', value: {} } : { $case: 'presigned', value } };
      }),
      uploadArtifact: handlers.clientStream<
        Parameters<typeof readUpload>[0] extends AsyncIterable<infer M> ? M : never,
        {
          readonly sha256: string;
        }
      >(async (requests) => {
        const { pieces } = await readUpload(requests);
        const content = Buffer.concat(await Array.fromAsync(pieces));
        const sha256 = createHash('sha256').update(content).digest('hex');
        this.uploads.set(sha256, content);
        return { sha256 };
      }),
    });
    const credentials = ServerCredentials.createInsecure();
    this.#port = await listen(server, { address: this.address, credentials, token: undefined });
    this.#server = server;
  }

  /** Dies: every connection breaks. */
  down(): void {
    this.#server?.forceShutdown();
    this.#server = null;
    this.#sink = null;
  }

  /** What agents said, save heartbeats and progress. */
  get received(): readonly Sent[] {
    return this.said.filter(({ $case }) => $case !== 'heartbeat' && $case !== 'progress');
  }

  /** State that a slot reported last. */
  state(slotId = 'slot-1'): SlotState | undefined {
    return this.#status(slotId)?.state;
  }

  /** Lease that a slot reported last as the one in hand. */
  leaseId(slotId = 'slot-1'): string | undefined {
    return this.#status(slotId)?.leaseId;
  }

  /** What an agent told last of a slot itself. */
  slot(slotId = 'slot-1'): SlotInfo | undefined {
    const told = this.said.flatMap((sent) => {
      if (sent.$case === 'hello') return sent.value.slots;
      return sent.$case === 'slotChanged' && sent.value.slot !== undefined ? [sent.value.slot] : [];
    });
    return told.findLast((slot) => slot.slotId === slotId);
  }

  /** Whether an agent is attached and has said who it is. */
  get attached(): boolean {
    return this.#sink !== null;
  }

  /** Says something to the agent. */
  say(message: Answer): void {
    assert.ok(this.#sink?.post({ message }), 'an agent is attached');
  }

  /** Grants a lease, which is valid from then on. */
  grant(fields: GrantFields): void {
    const value = Grant.fromPartial({ term: this.term, hangSeconds: 30, slotId: 'slot-1', jobId: 'job-1', ...fields });
    this.valid.add(value.leaseId);
    this.say({ $case: 'grant', value });
  }

  /** Commits every chunk: those that were offered without an answer now, and all others when they come. */
  commitAll(): void {
    this.judge = () => 'CHUNK_VERDICT_COMMITTED';
    for (const manifest of this.#open.splice(0)) this.#answer(manifest);
  }

  /** Makes an input available. @returns its reference */
  input(content: Buffer): { readonly sha256: string; readonly bytes: number } {
    const sha256 = createHash('sha256').update(content).digest('hex');
    this.inputs.set(sha256, content);
    return { sha256, bytes: content.length };
  }

  /** Hellos so far. */
  get hellos(): readonly Hello[] {
    return this.received.flatMap((sent) => (sent.$case === 'hello' ? [sent.value] : []));
  }

  /** Chunks offered so far, repeats included. */
  get offers(): readonly ChunkManifest[] {
    return this.received.flatMap((sent) =>
      sent.$case === 'chunkReady' && sent.value.manifest !== undefined ? [sent.value.manifest] : [],
    );
  }

  /** Clips of a lease that were offered, each once, in ascending order: two are uploaded at a time, and either may be first. */
  clips(leaseId: string): readonly number[] {
    const clips = new Set(this.offers.filter((offer) => offer.leaseId === leaseId).map((offer) => offer.clip));
    return [...clips].sort((a, b) => a - b);
  }

  /** How a lease ended, if it has. */
  ended(leaseId: string): LeaseEnded | undefined {
    for (const sent of this.received) {
      if (sent.$case === 'leaseEnded' && sent.value.leaseId === leaseId) return sent.value;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.down();
  }

  #status(slotId: string): SlotStatus | undefined {
    const heartbeat = this.said.findLast((sent) => sent.$case === 'heartbeat');
    return heartbeat?.value.slots.find((slot) => slot.slotId === slotId);
  }

  async #attach(requests: AsyncIterable<AttachRequest>, sink: MessageSink<AttachResponse>): Promise<void> {
    if (this.leader !== null) {
      this.redirects += 1;
      throw new FarmError('unavailable', `the coordinator at ${this.leader} leads`, { leader: this.leader });
    }
    try {
      for await (const { message } of requests) {
        // Not before: an agent takes nothing until its Hello is answered.
        if (message?.$case === 'hello') this.#sink = sink;
        if (message !== undefined) await this.#take(message);
      }
    } finally {
      if (this.#sink === sink) this.#sink = null;
    }
  }

  async #take(message: Sent): Promise<void> {
    this.said.push(message);
    if (message.$case === 'progress') this.progress.set(message.value.leaseId, message.value.clip);
    if (message.$case === 'hello') {
      if (this.refusal !== null) throw this.refusal;
      await this.ready;
      const validLeaseIds = message.value.leases.map((l) => l.leaseId).filter((leaseId) => this.valid.has(leaseId));
      const millis = { heartbeatMillis: 100, leaseMillis: 5000, graceMillis: this.graceMillis };
      this.say({ $case: 'welcome', value: { term: this.term, farmId: this.farmId, ...millis, validLeaseIds } });
    } else if (message.$case === 'chunkReady' && message.value.manifest !== undefined) {
      this.#answer(message.value.manifest);
    } else if (message.$case === 'anchorReady') {
      this.say({ $case: 'anchorAck', value: { jobId: message.value.jobId, accepted: true, reason: '' } });
    }
  }

  #answer(manifest: ChunkManifest): void {
    const { jobId, leaseId, clip } = manifest;
    const verdict = this.judge(manifest);
    const reason = 'the test says so';
    if (verdict === null) this.#open.push(manifest);
    else this.say({ $case: 'chunkAck', value: { jobId, leaseId, clip, verdict, reason } });
  }
}

/** Seconds after which a test gives up; far more than anything takes on a busy machine. */
const PATIENCE_SECONDS = 60;

/** Polls until the condition holds; fails with what was waited for. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_SECONDS * 1000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited ${PATIENCE_SECONDS} s until ${what}`);
    await sleep(20);
  }
}
