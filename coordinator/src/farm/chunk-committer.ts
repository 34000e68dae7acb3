import { FarmError } from '@clipfarm/shared/errors';
import type { ChunkManifest, ChunkVerdict } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Logger } from '@clipfarm/shared/log';
import { checkChunk, inspectChunk } from '@clipfarm/shared/media/chunk';
import { framesInClip } from '@clipfarm/shared/model/clip';
import type { Metrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { type Decision, isOver } from '../core/decide.ts';
import type { FailureClass, JobState } from '../core/job-model.ts';
import type { AnchorKeeper } from './anchor-keeper.ts';
import { artifactKeys } from './artifact-keys.ts';
import { type Fleet, isRenderTime } from './fleet.ts';
import type { Jobs } from './jobs.ts';
import type { Nodes } from './nodes.ts';
import type { StorageHealth } from './storage-health.ts';

/** What the agent is told about a chunk. */
export interface ChunkAnswer {
  readonly verdict: ChunkVerdict;
  readonly reason: string;
}

const COMMITTED: ChunkAnswer = { verdict: 'CHUNK_VERDICT_COMMITTED', reason: '' };

/** Verifies uploaded chunks and commits them: size, hash (checked while it came in), stream parameters, frame count. */
export class ChunkCommitter {
  readonly #jobs: Jobs;
  readonly #nodes: Nodes;
  readonly #fleet: Fleet;
  readonly #store: ArtifactStore;
  readonly #anchors: AnchorKeeper;
  readonly #metrics: Metrics;
  readonly #storage: StorageHealth;
  readonly #log: Logger;

  constructor(parts: {
    jobs: Jobs;
    nodes: Nodes;
    fleet: Fleet;
    store: ArtifactStore;
    anchors: AnchorKeeper;
    metrics: Metrics;
    storage: StorageHealth;
    log: Logger;
  }) {
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
    this.#fleet = parts.fleet;
    this.#store = parts.store;
    this.#anchors = parts.anchors;
    this.#metrics = parts.metrics;
    this.#storage = parts.storage;
    this.#log = parts.log;
  }

  /** Judges a chunk that a node announced. Never throws: trouble on this side is `TRY_AGAIN`. */
  async offer(nodeId: string, manifest: ChunkManifest): Promise<ChunkAnswer> {
    const stop = this.#metrics.chunkCommitSeconds.startTimer();
    const answer = await this.#judge(nodeId, manifest).catch((error: unknown): ChunkAnswer => {
      const failure = FarmError.from(error);
      this.#storage.failed(failure);
      const { jobId, leaseId, clip } = manifest;
      this.#log.warn(
        { err: error, ...this.#nodes.fieldsOf(nodeId), job_id: jobId, lease_id: leaseId, clip },
        'a chunk could not be committed now; the agent offers it again',
      );
      return { verdict: 'CHUNK_VERDICT_TRY_AGAIN', reason: failure.message };
    });
    stop();
    if (answer.verdict !== 'CHUNK_VERDICT_COMMITTED') {
      this.#metrics.chunkRefusals.inc({ verdict: answer.verdict.replace('CHUNK_VERDICT_', '').toLowerCase() });
      const { jobId, leaseId, clip } = manifest;
      const fields = {
        ...this.#nodes.fieldsOf(nodeId),
        job_id: jobId,
        lease_id: leaseId,
        clip,
        verdict: answer.verdict,
      };
      this.#log.warn({ ...fields, reason: answer.reason }, 'chunk not committed');
    }
    return answer;
  }

  async #judge(nodeId: string, manifest: ChunkManifest): Promise<ChunkAnswer> {
    const { jobId, leaseId, clip, sha256 } = manifest;
    const job = this.#jobs.get(jobId);
    if (!job) return { verdict: 'CHUNK_VERDICT_NOT_WANTED', reason: `there is no job ${jobId}` };
    // A completed job has forgotten its leases, so it can't judge whose chunk this is; it wants none anyway.
    if (job.status === 'completed') return { verdict: 'CHUNK_VERDICT_NOT_WANTED', reason: 'the job is completed' };
    const lease = job.leases.get(leaseId) ?? job.pastLeases.get(leaseId);
    if (!lease || lease.nodeId !== nodeId) {
      return { verdict: 'CHUNK_VERDICT_REJECTED', reason: `lease ${leaseId} was never given to this node` };
    }
    if (clip >= job.definition.clips) {
      return { verdict: 'CHUNK_VERDICT_REJECTED', reason: `the job has no clip ${clip}` };
    }
    const known = job.committed.get(clip);
    if (known?.leaseId === leaseId && known.chunk.sha256 === sha256) return COMMITTED;
    // Judged before the upload is asked for: what is not wanted need not come.
    if (known || isOver(job)) return this.#notWanted(job, manifest);
    const key = artifactKeys.chunk(jobId, clip, sha256);
    const stored = await this.#store.stat(key);
    if (!stored)
      return { verdict: 'CHUNK_VERDICT_TRY_AGAIN', reason: 'the chunk is not in the store: upload it again' };
    const answer = await this.#verifyAndCommit(job, manifest, key);
    // Equal bytes of two attempts share a file, so a refusal must not take away what another one has committed.
    const kept = job.committed.get(clip)?.chunk.sha256 === sha256;
    if (answer.verdict !== 'CHUNK_VERDICT_COMMITTED' && !kept) await this.#store.remove(key);
    return answer;
  }

  async #verifyAndCommit(job: JobState, manifest: ChunkManifest, key: string): Promise<ChunkAnswer> {
    const { jobId, leaseId, clip, sha256, bytes, span } = manifest;
    const { width, height, frames } = job.definition;
    let headerHash: string;
    const expectedFrames = framesInClip(clip, frames);
    try {
      const path = await this.#store.localFile(key);
      const info = await inspectChunk(path);
      if (info.bytes !== bytes)
        throw new FarmError('invalid_argument', `${info.bytes} bytes came, ${bytes} were announced`);
      checkChunk(info, { width, height, frames: expectedFrames });
      headerHash = info.headerHash;
    } catch (error) {
      if (!(error instanceof FarmError) || error.code !== 'invalid_argument') throw error;
      return this.#reject(job, manifest, error.message);
    }
    const chunk = { sha256, bytes };
    const call = span === undefined ? {} : { span };
    const offered = { leaseId, clip, frames: expectedFrames, chunk, headerHash, ...call };
    const decision = await this.#jobs.execute(jobId, { type: 'commit', chunk: offered });
    return this.#answer(job, manifest, headerHash, decision);
  }

  /** Counts a clip that was rendered in vain. */
  async #notWanted(job: JobState, manifest: ChunkManifest): Promise<ChunkAnswer> {
    const { leaseId, clip } = manifest;
    const decision = await this.#jobs.execute(job.definition.jobId, { type: 'superfluous', leaseId, clip });
    this.#metrics.staleCommits.inc();
    const reason = 'reason' in decision ? decision.reason : `clip ${clip} is not wanted`;
    return { verdict: 'CHUNK_VERDICT_NOT_WANTED', reason };
  }

  async #answer(job: JobState, manifest: ChunkManifest, headerHash: string, decision: Decision): Promise<ChunkAnswer> {
    switch (decision.outcome) {
      case 'done':
        // Before anything is counted: the other spans wait for it.
        if (manifest.clip === 0) await this.#anchors.ensure(job);
        this.#noteSuccess(job, manifest);
        return COMMITTED;
      case 'unchanged':
        return COMMITTED;
      case 'not_wanted':
        return this.#notWanted(job, manifest);
      case 'refused':
        return this.#reject(job, manifest, decision.reason, decision.failureClass, headerHash);
    }
  }

  async #reject(
    job: JobState,
    manifest: ChunkManifest,
    reason: string,
    failureClass: FailureClass = 'bad_chunk',
    headerHash?: string,
  ): Promise<ChunkAnswer> {
    const { leaseId, clip } = manifest;
    const message = `chunk of clip ${clip} refused: ${reason}`;
    const { jobId } = job.definition;
    const headers = failureClass === 'other_encoder' && headerHash !== undefined ? { headerHash } : {};
    await this.#jobs.execute(jobId, { type: 'failLease', leaseId, failureClass, message, clip, ...headers });
    return { verdict: 'CHUNK_VERDICT_REJECTED', reason };
  }

  #noteSuccess(job: JobState, manifest: ChunkManifest): void {
    const record = job.committed.get(manifest.clip);
    if (!record) return;
    const { nodeId, slotId } = record;
    this.#nodes.noteSuccess(nodeId);
    const slot = this.#fleet.slot(nodeId, slotId);
    if (!slot) return;
    const { renderSeconds, peakMemoryBytes, reservedMemoryBytes } = manifest;
    this.#fleet.noteClip(slot, job.definition, renderSeconds, peakMemoryBytes, reservedMemoryBytes);
    this.#metrics.clipsCommitted.inc({ profile: slot.profile });
    // The clip is committed by now; a number that none can be is unknown.
    if (isRenderTime(renderSeconds)) this.#metrics.clipRenderSeconds.observe({ profile: slot.profile }, renderSeconds);
  }
}
