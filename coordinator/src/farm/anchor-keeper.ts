import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { runTool } from '@clipfarm/shared/process';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import type { ContentRef, JobState } from '../core/job-model.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { Jobs } from './jobs.ts';

const TIMEOUT_MS = 30_000;

/** Sees to it that a job that uses its first frame as anchor has one as soon as clip 0 is committed. */
export class AnchorKeeper {
  readonly #jobs: Jobs;
  readonly #store: ArtifactStore;
  readonly #ffmpeg: Ffmpeg;

  constructor(jobs: Jobs, store: ArtifactStore, ffmpeg: Ffmpeg) {
    this.#jobs = jobs;
    this.#store = store;
    this.#ffmpeg = ffmpeg;
  }

  /** Commits the lossless anchor that an agent uploaded. Repeats are harmless. @returns why it was refused, or null */
  async commit(jobId: string, leaseId: string, anchor: ContentRef): Promise<string | null> {
    if (!(await this.#store.stat(artifactKeys.anchor(jobId, anchor.sha256)))) return 'the anchor is not in the store';
    const decision = await this.#jobs.execute(jobId, { type: 'commitAnchor', leaseId, anchor });
    return decision.outcome === 'refused' ? decision.reason : null;
  }

  /**
   * Takes the anchor from the chunk of clip 0 where no agent has handed one in: it crashed between the two. The other
   * spans would wait for ever otherwise.
   *
   * @param chunkPath the verified chunk of clip 0
   */
  async ensure(job: JobState, chunkPath: string, leaseId: string): Promise<void> {
    if (job.definition.anchorMode !== 'first_frame' || job.anchor !== null) return;
    const out = join(this.#store.tempDir(), `anchor-${randomUUID()}.png`);
    const args = ['-nostdin', '-v', 'error', '-y', '-protocol_whitelist', 'file,pipe', '-i', chunkPath];
    await runTool(this.#ffmpeg.ffmpeg, [...args, '-frames:v', '1', '-f', 'image2', '-update', '1', out], {
      timeoutMs: TIMEOUT_MS,
    });
    const { size } = await stat(out);
    if (size === 0) throw new FarmError('internal', 'no anchor could be taken from the chunk of clip 0');
    const anchor = { sha256: await hashFile(out), bytes: size };
    const { jobId } = job.definition;
    await this.#store.putFile(artifactKeys.anchor(jobId, anchor.sha256), out, anchor);
    await this.#jobs.execute(jobId, { type: 'commitAnchor', leaseId, anchor });
  }
}
