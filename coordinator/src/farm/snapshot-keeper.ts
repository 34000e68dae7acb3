import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';

/** What a snapshot can be taken of. */
export interface Snapshotted {
  readonly name: string;
  /** @throws what the journal throws when it can't be written */
  saveSnapshot(): Promise<void>;
}

/**
 * Saves snapshots one at a time, beside everything else. Nothing depends on them: one that can't be saved is asked for again
 * with the next event of its stream.
 */
export class SnapshotKeeper {
  readonly #log: Logger;
  readonly #waiting = new Set<Snapshotted>();
  #running: Promise<void> | null = null;
  #saving: { readonly stream: Snapshotted; readonly over: Promise<void> } | null = null;
  #failing = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Asks for a snapshot of a stream, soon; asking again before then changes nothing. */
  request(stream: Snapshotted): void {
    this.#waiting.add(stream);
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** Takes back what was asked for a stream, and waits while its snapshot is being saved: nothing comes of it afterwards. */
  async forget(stream: Snapshotted): Promise<void> {
    this.#waiting.delete(stream);
    if (this.#saving?.stream === stream) await this.#saving.over;
  }

  /** Resolves when everything that was asked for is saved, or could not be. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // What changes in the same turn is in the same snapshot.
    await Promise.resolve();
    for (const stream of this.#waiting) {
      this.#waiting.delete(stream);
      this.#saving = { stream, over: this.#save(stream) };
      await this.#saving.over;
      this.#saving = null;
    }
  }

  async #save(stream: Snapshotted): Promise<void> {
    try {
      await stream.saveSnapshot();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.#log.warn({ err: FarmError.from(error), stream: stream.name }, 'no snapshot saved');
      this.#failing = true;
    }
  }
}
