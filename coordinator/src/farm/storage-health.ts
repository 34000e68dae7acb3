import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';

/**
 * Whether the coordinator can store what comes in. While it can't, nothing is lost: chunks wait in the agents' spools
 * and are offered again. Says so once when it begins and once when it ends.
 */
export class StorageHealth {
  readonly #log: Logger;
  #problem: string | null = null;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** What is wrong, or null. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Notes that something was stored. */
  stored(): void {
    if (this.#problem === null) return;
    this.#problem = null;
    this.#log.info('the store takes data again');
  }

  /** Notes a failure to store; only a full disk or quota counts, everything else is the request's own trouble. */
  failed(error: FarmError): void {
    if (error.code !== 'resource_exhausted' || !/ENOSPC|EDQUOT|full/i.test(error.message)) return;
    if (this.#problem === null) {
      this.#log.error(
        { err: error },
        'the store is full: free space in the data directory; agents keep their chunks until then',
      );
    }
    this.#problem = `the coordinator's disk is full; finished clips wait in the agents' spools (${error.message})`;
  }

  /** Runs something that stores, and notes how it went. */
  async watch<T>(store: () => Promise<T>): Promise<T> {
    try {
      const result = await store();
      this.stored();
      return result;
    } catch (error) {
      if (error instanceof FarmError) this.failed(error);
      throw error;
    }
  }
}
