import { randomUUID } from 'node:crypto';
import { open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Logger } from '@clipfarm/shared/log';
import { readChunk } from '@clipfarm/shared/media/chunk';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { runTool } from '@clipfarm/shared/process';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { isOver } from '../core/decide.ts';
import type { CommittedClip, ContentRef, JobState } from '../core/job-model.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { Jobs } from './jobs.ts';
import type { Office } from './office.ts';

const TIMEOUT_MS = 30_000;

/** PNG's signature and the start of its first chunk, after which width and height follow (RFC 2083, 3.1 and 4.1.1). */
const PNG_START = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex');

/** Between two attempts to take an anchor from its chunk. */
const RETRY_MILLIS = 5000;

/** What an {@link AnchorKeeper} works with. */
export interface AnchorParts {
  readonly jobs: Jobs;
  readonly store: ArtifactStore;
  readonly ffmpeg: Ffmpeg;
  readonly office: Pick<Office, 'leads'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Sees to it that a job that uses its first frame as anchor has one as soon as clip 0 is committed. */
export class AnchorKeeper {
  readonly #parts: AnchorParts;
  /** By job. */
  readonly #retries = new Map<string, Timer>();
  /** By job: why its anchor could not be taken last. */
  readonly #problems = new Map<string, string>();

  constructor(parts: AnchorParts) {
    this.#parts = parts;
    parts.jobs.onEvent((job, event) => {
      // While it was over nothing was tried, and without its anchor nothing would be scheduled.
      if (event.type === 'JobRetried' && parts.office.leads) void this.ensure(job);
    });
  }

  /** Why a job still waits for an anchor that could be taken from its first clip; null where it does not. */
  problemOf(jobId: string): string | null {
    return this.#problems.get(jobId) ?? null;
  }

  /**
   * Commits the lossless anchor that a node uploaded for its own lease. Repeats are harmless.
   *
   * @returns why it was refused, or null
   */
  async commit(nodeId: string, jobId: string, leaseId: string, anchor: ContentRef): Promise<string | null> {
    const job = this.#parts.jobs.get(jobId);
    const lease = job?.leases.get(leaseId) ?? job?.pastLeases.get(leaseId);
    if (!job || lease?.nodeId !== nodeId) return `lease ${leaseId} was never given to this node`;
    if (job.anchor) return null;
    try {
      await this.#check(job, anchor);
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code !== 'invalid_argument' && code !== 'not_found') throw error;
      return message;
    }
    const decision = await this.#parts.jobs.execute(jobId, { type: 'commitAnchor', leaseId, anchor });
    this.#problems.delete(jobId);
    return decision.outcome === 'refused' ? decision.reason : null;
  }

  async #check(job: JobState, anchor: ContentRef): Promise<void> {
    const { jobId, width, height } = job.definition;
    const key = artifactKeys.anchor(jobId, anchor.sha256);
    const stored = await this.#parts.store.stat(key);
    if (stored?.bytes !== anchor.bytes) throw new FarmError('invalid_argument', 'the anchor is not in the store');
    const picture = await pngSize(await this.#parts.store.localFile(key));
    if (picture?.width !== width || picture.height !== height) {
      throw new FarmError('invalid_argument', `the anchor is no PNG of ${width}x${height}`);
    }
  }

  /**
   * Takes the anchor from the committed chunk of clip 0 where no agent has handed one in: it crashed between the two. The
   * other spans would wait for ever otherwise. Never throws: where the chunk can't be used, the clip is given up and
   * rendered again; other trouble is this host's, and passes.
   */
  async ensure(job: JobState): Promise<void> {
    const { log, clock, office } = this.#parts;
    const { jobId } = job.definition;
    this.#retries.get(jobId)?.cancel();
    this.#retries.delete(jobId);
    try {
      await this.#take(job);
      this.#problems.delete(jobId);
    } catch (error) {
      // The next leader takes every live job up.
      if (!office.leads) return;
      this.#problems.set(jobId, FarmError.from(error).message);
      log.warn({ err: error, job_id: jobId }, 'the anchor could not be taken from the first clip; it is tried again');
      this.#retries.get(jobId)?.cancel();
      this.#retries.set(
        jobId,
        clock.setTimeout(() => void this.ensure(job), RETRY_MILLIS),
      );
    }
  }

  /** Tries nothing again. */
  stop(): void {
    for (const retry of this.#retries.values()) retry.cancel();
    this.#retries.clear();
    this.#problems.clear();
  }

  async #take(job: JobState): Promise<void> {
    const first = job.committed.get(0);
    if (!first || isOver(job) || job.definition.anchorMode !== 'first_frame' || job.anchor !== null) return;
    const { jobs, store, ffmpeg } = this.#parts;
    const { jobId } = job.definition;
    const chunk = await this.#usable(jobId, first);
    if (chunk === null) return;
    const out = join(store.tempDir(), `anchor-${randomUUID()}.png`);
    try {
      const args = [...QUIET, ...LOCAL_ONLY, '-i', chunk, '-frames:v', '1', '-f', 'image2', '-update', '1', out];
      await runTool(ffmpeg.ffmpeg, args, { timeoutMs: TIMEOUT_MS });
      const anchor = { sha256: await hashFile(out), bytes: (await stat(out)).size };
      await store.putFile(artifactKeys.anchor(jobId, anchor.sha256), out, anchor);
      await jobs.execute(jobId, { type: 'commitAnchor', leaseId: first.leaseId, anchor });
    } finally {
      await rm(out, { force: true });
    }
  }

  /** Path of a committed chunk; null when it is gone or damaged: then its clip is given up. */
  async #usable(jobId: string, { clip, chunk }: CommittedClip): Promise<string | null> {
    const { jobs, store } = this.#parts;
    const key = artifactKeys.chunk(jobId, clip, chunk.sha256);
    try {
      const path = await store.localFile(key);
      await readChunk(path, chunk.sha256);
      return path;
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code !== 'not_found' && code !== 'invalid_argument') throw error;
      // First, because the clip may come again with equal bytes, and what is stored under their key is not replaced.
      await store.remove(key);
      await jobs.execute(jobId, { type: 'loseClip', clip, reason: `its chunk can't be used: ${message}` });
      return null;
    }
  }
}

/** Width and height in pixels of a PNG file; null when it is none. */
async function pngSize(path: string): Promise<{ readonly width: number; readonly height: number } | null> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(PNG_START.length + 8), 0, PNG_START.length + 8, 0);
    if (bytesRead < buffer.length || !buffer.subarray(0, PNG_START.length).equals(PNG_START)) return null;
    return { width: buffer.readUInt32BE(PNG_START.length), height: buffer.readUInt32BE(PNG_START.length + 4) };
  } finally {
    await file.close();
  }
}
