import { FPS } from '@clipfarm/shared/model/clip';

const WINDOW_MILLIS = 60_000;

/** Seconds of video made per second of wall clock, by job, over the last minute. */
export class Speedometer {
  readonly #commits = new Map<string, { readonly at: number; readonly frames: number }[]>();
  readonly #monotonic: () => number;

  /** @param monotonic milliseconds */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** Notes a committed clip. */
  note(jobId: string, frames: number): void {
    const recent = this.#recent(jobId);
    recent.push({ at: this.#monotonic(), frames });
    this.#commits.set(jobId, recent);
  }

  /** Forgets a job that is over. */
  forget(jobId: string): void {
    this.#commits.delete(jobId);
  }

  /** The speed; 0 until two clips were committed. */
  of(jobId: string): number {
    const recent = this.#recent(jobId);
    const first = recent[0];
    if (!first || recent.length < 2) return 0;
    const seconds = Math.max(0.001, (this.#monotonic() - first.at) / 1000);
    const frames = recent.slice(1).reduce((sum, commit) => sum + commit.frames, 0);
    return frames / FPS / seconds;
  }

  #recent(jobId: string) {
    const since = this.#monotonic() - WINDOW_MILLIS;
    return (this.#commits.get(jobId) ?? []).filter((commit) => commit.at >= since);
  }
}
