import type { Clock, Timer } from '@clipfarm/shared/clock';
import type { Logger } from '@clipfarm/shared/log';

/** What a {@link DiskGuard} works with. */
export interface DiskGuardOptions {
  /** Frees so many bytes on the disk, as far as that can be; returns those that are free then. */
  readonly makeRoom: (bytes: number) => Promise<number>;
  /** The disk is full, or has room again. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Free bytes from which on the disk counts as usable again: some hundred chunks. */
const ENOUGH_BYTES = 256 * 2 ** 20;

/** Milliseconds between looks at the disk. */
const CHECK_MILLIS = 5000;

/** Remembers, for all slots of the agent, that the disk was full until it has room again. */
export class DiskGuard {
  readonly #options: DiskGuardOptions;
  #reason: string | null = null;
  #timer: Timer | null = null;
  /** The look that counts; one before it is void, also when it is still under way. */
  #looks = 0;
  #closed = false;

  constructor(options: DiskGuardOptions) {
    this.#options = options;
  }

  /** Why nothing can be written now; null when it can. */
  get reason(): string | null {
    return this.#reason;
  }

  /** Something could not be written because the disk is full. */
  full(message: string): void {
    const { log, onChange } = this.#options;
    const isNews = this.#reason === null;
    this.#reason = `the disk of the state directory is full: ${message}`;
    this.#watch();
    if (!isNews) return;
    const fields = { reason: message, needed_bytes: ENOUGH_BYTES };
    log.error(fields, 'the disk is full: no slot of this agent takes work until it has room');
    onChange();
  }

  /** Looks no more; what a look under way finds is void. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #watch(): void {
    const { clock, makeRoom, onChange, log } = this.#options;
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#looks += 1;
    const look = this.#looks;
    this.#timer = clock.setTimeout(async () => {
      const free = await makeRoom(ENOUGH_BYTES).catch(() => 0);
      if (this.#closed || look !== this.#looks) return;
      if (free < ENOUGH_BYTES) {
        this.#watch();
        return;
      }
      this.#reason = null;
      log.info({ free_bytes: free }, 'the disk has room again: the slots take work');
      onChange();
    }, CHECK_MILLIS);
  }
}
