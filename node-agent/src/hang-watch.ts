import type { Clock, Timer } from '@clipfarm/shared/clock';

/** How long a {@link HangWatch} waits, and what then. */
export interface HangWatchOptions {
  readonly clock: Clock;
  /** Seconds without progress that are a hang. */
  readonly seconds: number;
  /** The same before the first sign of progress, when the runner may have to warm up. */
  readonly firstSeconds: number;
  /** Called at most once, with the seconds that passed. */
  readonly onHang: (seconds: number) => void;
}

/** Notices when a lease makes no progress. It runs from its construction until {@link stop}. */
export class HangWatch {
  /** A watch over nothing. */
  static readonly none = new HangWatch(null);
  readonly #options: HangWatchOptions | null;
  #timer: Timer | null = null;
  #held = 0;

  constructor(options: HangWatchOptions | null) {
    this.#options = options;
    if (options !== null) this.#arm(options, options.firstSeconds);
  }

  /** There was progress: the time begins anew. */
  progressed(): void {
    if (this.#timer === null || this.#options === null) return;
    this.#arm(this.#options, this.#options.seconds);
  }

  /** While `work` runs, the runner waits for this host, and its silence does not count. */
  async hold(work: () => Promise<void>): Promise<void> {
    this.#held += 1;
    try {
      await work();
    } finally {
      this.#held -= 1;
    }
  }

  /** Nothing is expected any more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(options: HangWatchOptions, seconds: number): void {
    this.#timer?.cancel();
    this.#timer = options.clock.setTimeout(() => {
      if (this.#held > 0) {
        this.#arm(options, seconds);
        return;
      }
      this.stop();
      options.onHang(seconds);
    }, seconds * 1000);
  }
}
