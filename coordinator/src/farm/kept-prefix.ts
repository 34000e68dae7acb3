import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { CLIP_FRAMES } from '@clipfarm/shared/model/clip';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import type { JobState } from '../core/job-model.ts';
import { committedPrefix } from '../core/job-progress.ts';
import { encodeDeliveryAudio } from '../media/delivery-audio.ts';
import { GrowingMp4 } from '../media/growing-mp4.ts';
import type { PrefixVideo } from '../media/prefix-video.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { AudioLibrary, DecodedAudio } from './audio-library.ts';
import type { Jobs } from './jobs.ts';
import { Mutex } from './mutex.ts';
import type { WorkQueue } from './work-queue.ts';

/** What {@link KeptPrefixes} work with. */
export interface KeptPrefixParts {
  readonly jobs: Pick<Jobs, 'live'>;
  readonly store: ArtifactStore;
  readonly audio: AudioLibrary;
  readonly ffmpeg: Ffmpeg;
  /** Where encoding waits for its turn. */
  readonly queue: Pick<WorkQueue, 'run'>;
  readonly workDir: string;
}

/**
 * The beginnings of videos of jobs that failed or were cancelled. Their chunks are kept for a retry, but no file grows from
 * them any more: it is made for who asks, one at a time, and is gone when it was read.
 */
export class KeptPrefixes {
  readonly #parts: KeptPrefixParts;
  readonly #oneByOne = new Mutex();

  constructor(parts: KeptPrefixParts) {
    this.#parts = parts;
  }

  /**
   * The clips that such a job has from the beginning without a gap, with their sound. Dispose of it.
   *
   * @throws FarmError `failed_precondition` when there are none; `resource_exhausted` when the disk is full; what the store,
   *   the encoder and `signal` throw
   */
  of(job: JobState, signal: AbortSignal): Promise<PrefixVideo> {
    return this.#oneByOne.run(async () => {
      signal.throwIfAborted();
      const clips = committedPrefix(job);
      if (clips === 0) throw new FarmError('failed_precondition', 'its first clip was not rendered');
      const { workDir } = this.#parts;
      await mkdir(workDir, { recursive: true });
      const dir = await mkdtemp(join(workDir, `${job.definition.jobId}-kept-`));
      try {
        return await this.#make(job, clips, dir, signal);
      } finally {
        // What is open goes on being readable without its name.
        await rm(dir, { recursive: true, force: true });
      }
    });
  }

  async #make(job: JobState, clips: number, dir: string, signal: AbortSignal): Promise<PrefixVideo> {
    const { width, height, frames } = job.definition;
    const totalFrames = Math.min(frames, clips * CLIP_FRAMES);
    const audio = await this.#encodeAudio(job, totalFrames, dir, signal);
    const path = join(dir, 'video.mp4');
    const video = await GrowingMp4.create({ path, width, height, totalFrames, clips, audio: Promise.resolve(audio) });
    try {
      for (let clip = 0; clip < clips && (await this.#append(video, job, clip)); clip += 1) signal.throwIfAborted();
      return await video.prefix();
    } finally {
      await video.close();
    }
  }

  /** @returns false when the chunk is gone or damaged: the beginning ends there, and a retry renders it again */
  async #append(video: GrowingMp4, { definition, committed }: JobState, clip: number): Promise<boolean> {
    const record = committed.get(clip);
    if (!record) return false;
    const { sha256 } = record.chunk;
    try {
      await video.append(await this.#parts.store.localFile(artifactKeys.chunk(definition.jobId, clip, sha256)), sha256);
      return true;
    } catch (error) {
      const { code } = FarmError.from(error);
      if (code === 'not_found' || code === 'invalid_argument') return false;
      throw error;
    }
  }

  async #encodeAudio({ definition }: JobState, frames: number, dir: string, signal: AbortSignal): Promise<string> {
    const { audio, ffmpeg, queue, jobs } = this.#parts;
    const { audioSha256 } = definition;
    const out = join(dir, 'audio.m4a');
    try {
      const options = { signal, urgent: true };
      const encode = ({ deliveryWav }: DecodedAudio) =>
        queue.run(() => encodeDeliveryAudio(ffmpeg, deliveryWav, { frames, out, signal }), options);
      await audio.use(audioSha256, encode, options);
      return out;
    } finally {
      const wanted = jobs.live().some((job) => job.definition.audioSha256 === audioSha256);
      if (!wanted) await audio.drop(audioSha256).catch(() => undefined);
    }
  }
}
