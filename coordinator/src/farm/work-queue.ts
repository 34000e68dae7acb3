import { FarmError } from '@clipfarm/shared/errors';

/** How {@link WorkQueue} treats a piece of work. */
export interface QueueOptions {
  /** Leaves the queue when aborted; work that has begun has to look at it itself. */
  readonly signal?: AbortSignal;
  /** Somebody waits for it: it goes before what is not urgent, and may use every place. */
  readonly urgent?: boolean;
}

/** Places in a {@link WorkQueue}. */
export interface Places {
  /** How much runs at once, 1 or more. */
  readonly all: number;
  /** How much of that may be work that is not urgent, 1 or more. */
  readonly notUrgent: number;
}

interface Waiting {
  readonly urgent: boolean;
  readonly begin: () => void;
}

/** Lets only so much work run at once. What waits is taken in the order in which it came, urgent work first. */
export class WorkQueue {
  readonly #places: Places;
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #notUrgent = 0;

  constructor(places: Places) {
    this.#places = places;
  }

  /** How much waits for a place. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Runs `work` when there is a place for it; settles as it does.
   *
   * @throws the signal's reason when it aborts before the work begins, as a FarmError `unavailable` if it is none
   */
  async run<T>(work: () => Promise<T>, { signal, urgent = false }: QueueOptions = {}): Promise<T> {
    if (signal?.aborted) throw abortReason(signal);
    await this.#place(urgent, signal);
    try {
      return await work();
    } finally {
      this.#running -= 1;
      if (!urgent) this.#notUrgent -= 1;
      this.#fill();
    }
  }

  #place(urgent: boolean, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        if (signal) reject(abortReason(signal));
      };
      const waiting = {
        urgent,
        begin: () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#waiting.push(waiting);
      this.#fill();
    });
  }

  #fill(): void {
    while (this.#running < this.#places.all) {
      let next = this.#waiting.findIndex(({ urgent }) => urgent);
      if (next === -1 && this.#notUrgent < this.#places.notUrgent) next = 0;
      const [waiting] = next === -1 ? [] : this.#waiting.splice(next, 1);
      if (!waiting) return;
      this.#running += 1;
      if (!waiting.urgent) this.#notUrgent += 1;
      waiting.begin();
    }
  }
}

/** Places for work on media: one for each core, as FFmpeg takes one; one of them is kept for those who wait. */
export function mediaPlaces(cores: number): Places {
  // Each may take a gigabyte, and a host of one core still answers while a long talk is encoded.
  const all = Math.max(2, Math.min(MOST_PLACES, cores));
  return { all, notUrgent: all - 1 };
}

const MOST_PLACES = 8;

/**
 * Settles as `work` does, or rejects when the signal aborts first, with its reason.
 *
 * @throws the signal's reason, as a FarmError `unavailable` if it is none
 */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(abortReason(signal));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function abortReason({ reason }: AbortSignal): FarmError {
  if (reason instanceof FarmError) return reason;
  return new FarmError('unavailable', 'the work is not wanted any more', { cause: reason });
}
