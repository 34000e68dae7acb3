import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarmError } from '@clipfarm/shared/errors';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import type { Farm } from '../harness/farm.ts';
import { cutAudio, identifyFrames, stampsOf } from '../harness/media.ts';
import type { Witness } from './witness.ts';

/** A job that was acknowledged. */
export interface Order {
  readonly key: string;
  readonly jobId: string;
  readonly audio: string;
  /** Milliseconds since 1970. */
  readonly orderedAt: number;
}

/** Seconds of the talks that are ordered in turn. */
const LENGTHS = [24, 48, 36] as const;

/**
 * Whoever uses the farm: keeps jobs under way, whatever happens, and has a look at every frame of every video. A
 * submission that fails is repeated with its idempotency key until it is acknowledged.
 */
export class Customers {
  /** Jobs that are kept under way. */
  jobsAtATime = 1;
  readonly orders: Order[] = [];
  /** Submissions that were not acknowledged at first. */
  repeats = 0;
  /** Frames that were identified. */
  frames = 0;
  /** Videos of which every frame was. */
  videos = 0;
  /** Jobs that were given up and taken up again by hand. */
  retries = 0;
  readonly complaints: string[] = [];
  readonly #farm: Farm;
  readonly #witness: Witness;
  readonly #audios: readonly string[];
  readonly #looked = new Set<string>();
  readonly #stopping = new AbortController();
  /** Nobody waits for another video. */
  #over = false;
  #ordering: Promise<void> = Promise.resolve();
  #looking: Promise<void> = Promise.resolve();

  private constructor(farm: Farm, witness: Witness, audios: readonly string[]) {
    this.#farm = farm;
    this.#witness = witness;
    this.#audios = audios;
  }

  /** Comes in and begins to order. */
  static async arrive(farm: Farm, witness: Witness): Promise<Customers> {
    const cut = (seconds: number) => cutAudio(join(farm.dir, `talk-${seconds}.flac`), { seconds });
    const customers = new Customers(farm, witness, await Promise.all(LENGTHS.map(cut)));
    customers.#ordering = customers.#orderOn();
    customers.#looking = customers.#lookOn();
    return customers;
  }

  /** Jobs that are not completed yet. */
  get underWay(): readonly Order[] {
    return this.orders.filter(({ jobId }) => !this.#isCompleted(jobId));
  }

  /** Orders nothing more, waits for everything that was ordered, and asks for all of it once more. */
  async leave(seconds: number): Promise<void> {
    this.#stopping.abort();
    await this.#ordering;
    const deadline = Date.now() + seconds * 1000;
    while (this.underWay.length > 0 && Date.now() < deadline) await sleep(250);
    for (const { jobId } of this.underWay)
      this.complaints.push(`job ${jobId} is not completed: ${await this.#state(jobId)}`);
    this.#over = true;
    await this.#looking;
    for (const order of this.orders) await this.#askAgain(order);
  }

  async #orderOn(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const failed = await this.#retryFailed();
      if (failed || this.underWay.length >= this.jobsAtATime) await sleep(200);
      else await this.#order(`order-${this.orders.length}`, this.#audios[this.orders.length % LENGTHS.length] ?? '');
    }
  }

  async #order(key: string, audio: string): Promise<void> {
    const { jobId } = await this.#insist(() => this.#farm.submit(audio, {}, undefined, key));
    this.orders.push({ key, jobId, audio, orderedAt: Date.now() });
  }

  /** The same order, with the same key: it must be the same job. */
  async #askAgain({ key, jobId, audio }: Order): Promise<void> {
    const again = await this.#insist(() => this.#farm.submit(audio, {}, undefined, key));
    if (again.jobId !== jobId) this.complaints.push(`${key} was ${jobId} and is ${again.jobId}`);
  }

  /** Repeats what fails for want of a leader, which is found again meanwhile. */
  async #insist<T>(call: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        await this.#farm.findLeader(180);
        return await call();
      } catch (error) {
        if (!(error instanceof FarmError)) throw error;
        this.repeats += 1;
        await sleep(200);
      }
    }
  }

  /** Takes up again what was given up: a clip that lost twenty nodes looks like the clip's fault. */
  async #retryFailed(): Promise<boolean> {
    for (const { jobId } of this.underWay) {
      const job = await this.#farm.job(jobId).catch(() => null);
      if (job?.state !== 'JOB_STATE_FAILED') continue;
      this.retries += 1;
      const { client } = this.#farm;
      await this.#insist(() => callUnary(client, client.retryJob, { jobId }));
      return true;
    }
    return false;
  }

  async #lookOn(): Promise<void> {
    for (;;) {
      const next = this.orders.find(({ jobId }) => this.#isCompleted(jobId) && !this.#looked.has(jobId));
      if (next) {
        this.#looked.add(next.jobId);
        await this.#look(next.jobId).catch((error: unknown) => {
          this.complaints.push(`job ${next.jobId}: ${error instanceof Error ? error.message : String(error)}`);
        });
      } else if (this.#over) {
        return;
      } else {
        await sleep(250);
      }
    }
  }

  async #look(jobId: string): Promise<void> {
    const { job, path } = await this.#insist(() => this.#farm.video(jobId));
    const { width, height, frames } = job.plan ?? assert.fail('no plan');
    identifyFrames(await stampsOf(path, width, height), {
      jobId,
      frames,
      baseSeed: job.spec?.settings?.baseSeed ?? -1,
    });
    this.frames += frames;
    this.videos += 1;
  }

  async #state(jobId: string): Promise<string> {
    const job: Job | null = await this.#farm.job(jobId).catch(() => null);
    return job === null ? 'nobody answers' : `${job.state}, ${job.clipsCommitted} clips, ${job.stateReason}`;
  }

  #isCompleted(jobId: string): boolean {
    return this.#witness.jobIds.includes(jobId) && this.#witness.history(jobId).completed;
  }
}
