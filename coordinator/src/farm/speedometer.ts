import { FPS } from '@clipfarm/shared/model/clip';

const WINDOW_MILLIS = 60_000;

interface Commit {
  /** Monotonic milliseconds. */
  readonly at: number;
  readonly frames: number;
}

/** Commits of the last minute, oldest first; those before `first` have left the window. */
interface Recent {
  commits: Commit[];
  first: number;
  /** Frames of the commits in the window. */
  frames: number;
}

/** Seconds of video made per second of wall clock, by job, over the last minute. */
export class Speedometer {
  readonly #jobs = new Map<string, Recent>();
  readonly #monotonic: () => number;

  /** @param monotonic milliseconds */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** Notes a committed clip. */
  note(jobId: string, frames: number): void {
    const recent = this.#recent(jobId) ?? { commits: [], first: 0, frames: 0 };
    recent.commits.push({ at: this.#monotonic(), frames });
    recent.frames += frames;
    this.#jobs.set(jobId, recent);
  }

  /** Forgets a job that is over. */
  forget(jobId: string): void {
    this.#jobs.delete(jobId);
  }

  /** The speed; 0 until two clips were committed. */
  of(jobId: string): number {
    const recent = this.#recent(jobId);
    const first = recent?.commits[recent.first];
    if (!recent || !first || recent.commits.length - recent.first < 2) return 0;
    const seconds = Math.max(0.001, (this.#monotonic() - first.at) / 1000);
    return (recent.frames - first.frames) / FPS / seconds;
  }

  /** What a job committed within the window. Each commit is looked at once when it leaves, not at every question. */
  #recent(jobId: string): Recent | undefined {
    const recent = this.#jobs.get(jobId);
    if (!recent) return undefined;
    const since = this.#monotonic() - WINDOW_MILLIS;
    for (let left = recent.commits[recent.first]; left && left.at < since; left = recent.commits[recent.first]) {
      recent.frames -= left.frames;
      recent.first += 1;
    }
    if (recent.first > recent.commits.length / 2) {
      recent.commits = recent.commits.slice(recent.first);
      recent.first = 0;
    }
    return recent;
  }
}
