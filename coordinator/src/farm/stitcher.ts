import { randomUUID } from 'node:crypto';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Logger } from '@clipfarm/shared/log';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import { FPS } from '@clipfarm/shared/model/clip';
import type { Metrics } from '../admin/metrics.ts';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import { isOver } from '../core/decide.ts';
import type { CommittedClip, ContentRef, JobResultRecord, JobState } from '../core/job-model.ts';
import { committedPrefix } from '../core/job-progress.ts';
import { encodeDeliveryAudio } from '../media/delivery-audio.ts';
import { GrowingMp4 } from '../media/growing-mp4.ts';
import type { PrefixVideo } from '../media/prefix-video.ts';
import { verifyVideo } from '../media/verify-video.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { AudioLibrary } from './audio-library.ts';
import type { Jobs } from './jobs.ts';
import { Mutex } from './mutex.ts';
import type { StorageHealth } from './storage-health.ts';
import type { WorkQueue } from './work-queue.ts';

interface Work {
  readonly dir: string;
  video: GrowingMp4 | null;
  /** Held while the video is written to or read from. */
  readonly lock: Mutex;
  appended: number;
  /** Most clips that were ever appended, before it was started over too. */
  furthest: number;
  /** Codec headers of what is appended. */
  headers: string | null;
  audio: Sound | null;
  /** The whole video, checked, until the job is completed with it. */
  finished: FinishedVideo | null;
  readonly abort: AbortController;
  running: Promise<void> | null;
  again: boolean;
  /** While it is pending nothing is done. */
  retry: Timer | null;
  /** Failures since it got further than ever before. */
  failures: number;
  /** Finished files that did not pass their checks. */
  badVideos: number;
}

/** The delivery audio, or the attempt to encode it. */
interface Sound {
  readonly path: Promise<string>;
  failed: boolean;
}

interface FinishedVideo {
  readonly path: string;
  readonly content: ContentRef;
  readonly audioSeconds: number;
  readonly checks: JobResultRecord['checks'];
  /** The store has taken it over. */
  stored: boolean;
}

/** What a {@link Stitcher} works with. */
export interface StitcherParts {
  readonly jobs: Jobs;
  readonly store: ArtifactStore;
  readonly audio: Pick<AudioLibrary, 'get' | 'drop'>;
  readonly ffmpeg: Ffmpeg;
  /** Where encoding waits for its turn. */
  readonly queue: Pick<WorkQueue, 'run'>;
  readonly workDir: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly storage: StorageHealth;
  readonly log: Logger;
}

const FIRST_RETRY_MILLIS = 1000;
const MAX_RETRY_MILLIS = 60_000;

/** Verification failures of a finished file before the job is given up; trouble of the host is retried for ever. */
const MAX_BAD_VIDEOS = 2;

/**
 * Writes each job's video while its clips come in, so that little is left to do after the last one. The growing file is
 * derived from committed chunks only: after a crash it is written anew.
 */
export class Stitcher {
  readonly #jobs: Jobs;
  readonly #store: ArtifactStore;
  readonly #audio: StitcherParts['audio'];
  readonly #ffmpeg: Ffmpeg;
  readonly #queue: StitcherParts['queue'];
  readonly #workDir: string;
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #storage: StorageHealth;
  readonly #log: Logger;
  readonly #works = new Map<string, Work>();
  #stopped = false;

  constructor(parts: StitcherParts) {
    this.#jobs = parts.jobs;
    this.#store = parts.store;
    this.#audio = parts.audio;
    this.#ffmpeg = parts.ffmpeg;
    this.#queue = parts.queue;
    this.#workDir = parts.workDir;
    this.#clock = parts.clock;
    this.#metrics = parts.metrics;
    this.#storage = parts.storage;
    this.#log = parts.log;
  }

  /** Clears what an earlier process left; to be called before the first job is advanced. */
  async clear(): Promise<void> {
    await rm(this.#workDir, { recursive: true, force: true });
    await mkdir(this.#workDir, { recursive: true });
  }

  /** Takes up every live job. */
  start(): void {
    for (const job of this.#jobs.live()) this.advance(job);
  }

  /** Stops: what takes long is given up, a piece in hand is written. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#works.keys()].map((jobId) => this.#discard(jobId)));
  }

  /** Goes on with a job whose state changed. */
  advance(job: JobState): void {
    if (this.#stopped) return;
    const { jobId } = job.definition;
    if (isOver(job)) {
      void this.#discard(jobId).then(() => this.#tidy(job));
      return;
    }
    const work = this.#works.get(jobId) ?? this.#open(jobId);
    if (work.retry !== null) return;
    work.again = true;
    work.running ??= this.#run(job, work).finally(() => {
      work.running = null;
      if (work.again) this.advance(job);
    });
  }

  /**
   * The beginning of a live job's video, as far as it is stitched. Dispose of it.
   *
   * @throws FarmError `failed_precondition` when there is none: nothing from the beginning is committed, the sound is not
   *   encoded yet, or the video is being finished.
   */
  async prefix(jobId: string): Promise<PrefixVideo> {
    const work = this.#works.get(jobId);
    if (!work?.video) throw new FarmError('failed_precondition', 'its first clip is not there yet');
    return work.lock.run(async () => {
      // A failure may have ended it while this waited.
      if (!work.video) throw new FarmError('failed_precondition', 'its video is begun anew');
      if (work.video.isFinished) {
        throw new FarmError(
          'failed_precondition',
          'all of it is there, and the whole video is being checked and stored',
        );
      }
      return work.video.prefix();
    });
  }

  #open(jobId: string): Work {
    const work: Work = {
      // Of its own, because a cancelled run of the same job may still be cleaning up.
      dir: join(this.#workDir, `${jobId}-${randomUUID()}`),
      video: null,
      lock: new Mutex(),
      appended: 0,
      furthest: 0,
      headers: null,
      audio: null,
      finished: null,
      abort: new AbortController(),
      running: null,
      again: false,
      retry: null,
      failures: 0,
      badVideos: 0,
    };
    this.#works.set(jobId, work);
    return work;
  }

  async #run(job: JobState, work: Work): Promise<void> {
    try {
      while (work.again && !this.#stopped && !isOver(job)) {
        work.again = false;
        await this.#grow(job, work);
        if (job.status === 'stitching' && work.appended === job.definition.clips) await this.#finish(job, work);
      }
    } catch (error) {
      await this.#recover(job, work, error);
    }
  }

  /** Appends what is committed without a gap. */
  async #grow(job: JobState, work: Work): Promise<void> {
    const { definition } = job;
    await mkdir(work.dir, { recursive: true });
    work.audio ??= this.#beginAudio(job, work);
    // All that it was begun with is lost since, and others encode what comes in its place.
    if (work.video && work.finished === null && work.headers !== job.headerHash)
      throw new FarmError('internal', 'its clips have other headers');
    const prefix = committedPrefix(job);
    if (prefix === work.appended) return;
    work.headers = job.headerHash;
    work.video ??= await GrowingMp4.create({
      path: join(work.dir, 'video.mp4'),
      width: definition.width,
      height: definition.height,
      totalFrames: definition.frames,
      clips: definition.clips,
      audio: work.audio.path,
    });
    while (work.appended < prefix && !this.#stopped) {
      const record = job.committed.get(work.appended);
      if (!record) throw new FarmError('internal', `clip ${work.appended} is in the prefix and not committed`);
      const { video } = work;
      if (!(await work.lock.run(() => this.#append(job, video, record, work.abort.signal)))) return;
      work.appended += 1;
      if (work.appended > work.furthest) {
        work.furthest = work.appended;
        work.failures = 0;
      }
      this.#metrics.stitchedBytes.inc(record.chunk.bytes);
    }
  }

  /** Appends a chunk. @returns false when it is gone or damaged; then the clip is given up and rendered again */
  async #append(
    job: JobState,
    video: GrowingMp4,
    { clip, chunk }: CommittedClip,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { jobId } = job.definition;
    const key = artifactKeys.chunk(jobId, clip, chunk.sha256);
    try {
      await video.append(await unlessAborted(this.#store.localFile(key), signal), chunk.sha256);
      return true;
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code !== 'not_found' && code !== 'invalid_argument') throw error;
      // First, because the clip may come again with equal bytes, and what is stored under their key is not replaced.
      await this.#store.remove(key);
      await this.#jobs.execute(jobId, { type: 'loseClip', clip, reason: `its chunk can't be used: ${message}` });
      return false;
    }
  }

  #beginAudio(job: JobState, work: Work): Sound {
    const sound: Sound = { path: this.#encodeAudio(job, work), failed: false };
    // Whoever awaits it hears of a failure; until then it must not count as unhandled.
    sound.path.catch(() => {
      sound.failed = true;
    });
    return sound;
  }

  async #encodeAudio(job: JobState, work: Work): Promise<string> {
    const out = join(work.dir, 'audio.m4a');
    const { signal } = work.abort;
    const { frames, audioSha256 } = job.definition;
    const { deliveryWav } = await this.#audio.get(audioSha256, { signal });
    await this.#queue.run(() => encodeDeliveryAudio(this.#ffmpeg, deliveryWav, { frames, out, signal }), { signal });
    return out;
  }

  async #finish(job: JobState, work: Work): Promise<void> {
    const { definition } = job;
    work.finished ??= await this.#wholeVideo(job, work);
    const { path, content, audioSeconds, checks, stored } = work.finished;
    if (!stored) {
      const { signal } = work.abort;
      await this.#store.putFile(artifactKeys.video(definition.jobId, content.sha256), path, content, signal);
    }
    work.finished.stored = true;
    const finishMillis = this.#clock.now() - (job.lastCommitAt ?? this.#clock.now());
    const videoSeconds = definition.frames / FPS;
    const result = { video: content, frames: definition.frames, videoSeconds, audioSeconds, finishMillis, checks };
    const { outcome } = await this.#jobs.execute(definition.jobId, { type: 'complete', result });
    if (outcome === 'done') this.#metrics.finishSeconds.observe(finishMillis / 1000);
  }

  /** Finishes the file and checks it. */
  async #wholeVideo(job: JobState, work: Work): Promise<FinishedVideo> {
    const { definition } = job;
    const { video } = work;
    if (!video) throw new FarmError('internal', 'nothing was stitched');
    const { path } = await work.lock.run(() => video.finish());
    const expected = {
      frames: definition.frames,
      width: definition.width,
      height: definition.height,
      audioSamples: definition.audioSamples,
    };
    const { checks, audioSeconds } = await verifyVideo(this.#ffmpeg, path, expected, work.abort.signal);
    const bad = checks.filter((check) => !check.ok);
    if (bad.length > 0) {
      work.badVideos += 1;
      // It may be the sound that is wrong.
      work.audio = null;
      const reason = bad.map((check) => `${check.name}: ${check.detail}`).join('; ');
      throw new FarmError('internal', `the finished video is wrong: ${reason}`);
    }
    const content = { sha256: await hashFile(path, work.abort.signal), bytes: (await stat(path)).size };
    this.#storage.stored();
    return { path, content, audioSeconds, checks, stored: false };
  }

  /**
   * Tries again, later: a full disk or a missing tool may be mended meanwhile. A growing file is started over, because chunks
   * are the truth; one that is finished, and sound that is encoded or still being encoded, are kept.
   */
  async #recover(job: JobState, work: Work, error: unknown): Promise<void> {
    if (this.#stopped || isOver(job) || work.abort.signal.aborted) return;
    const { jobId } = job.definition;
    const failure = FarmError.from(error);
    this.#storage.failed(failure);
    work.failures += 1;
    this.#log.warn({ err: error, job_id: jobId, failures: work.failures }, 'stitching failed; it is tried again');
    if (work.finished !== null && !(await isKept(work.finished))) work.finished = null;
    if (work.finished === null) {
      await work.lock.run(async () => work.video?.close()).catch(() => undefined);
      work.video = null;
      work.appended = 0;
    }
    if (work.audio?.failed) work.audio = null;
    work.again = false;
    if (work.badVideos > MAX_BAD_VIDEOS && (await this.#giveUp(jobId, failure.message))) return;
    if (work.abort.signal.aborted) return;
    const delay = Math.min(MAX_RETRY_MILLIS, FIRST_RETRY_MILLIS * 2 ** (work.failures - 1));
    work.retry = this.#clock.setTimeout(() => {
      work.retry = null;
      this.advance(job);
    }, delay);
  }

  /** @returns false when even that can't be recorded now */
  async #giveUp(jobId: string, reason: string): Promise<boolean> {
    try {
      await this.#jobs.execute(jobId, { type: 'fail', reason });
      return true;
    } catch (error) {
      this.#log.warn({ err: error, job_id: jobId }, 'a failed job could not be recorded; it is tried again');
      return false;
    }
  }

  /** Frees what a job that is over needs no more. A cancelled or failed one keeps its chunks for a retry. */
  async #tidy(job: JobState): Promise<void> {
    const { jobId, audioSha256 } = job.definition;
    const shared = this.#jobs.live().some((other) => other.definition.audioSha256 === audioSha256);
    try {
      if (!shared) await this.#audio.drop(audioSha256);
      if (job.status === 'completed') await this.#store.removePrefix(`jobs/${jobId}/chunks`);
    } catch (error) {
      this.#log.warn({ err: error, job_id: jobId }, 'files of a finished job stay behind');
    }
  }

  async #discard(jobId: string): Promise<void> {
    const work = this.#works.get(jobId);
    if (!work) return;
    this.#works.delete(jobId);
    work.abort.abort();
    work.retry?.cancel();
    await work.running;
    await work.lock.run(async () => work.video?.close()).catch(() => undefined);
    await rm(work.dir, { recursive: true, force: true }).catch((error: unknown) => {
      this.#log.warn({ err: error, job_id: jobId }, 'the work directory of a finished job stays behind');
    });
  }
}

/** Whether a finished video is still there. A store that failed may have taken it over all the same. */
async function isKept({ path, stored }: FinishedVideo): Promise<boolean> {
  return stored || (await stat(path).catch(() => null)) !== null;
}

/** Waits for something that goes on by itself and that others may share, unless the signal aborts. */
async function unlessAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  const aborted = Promise.withResolvers<never>();
  const stop = () => aborted.reject(new FarmError('unavailable', 'it was given up'));
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
