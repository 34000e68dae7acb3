import type { Clock } from '@clipfarm/shared/clock';
import type { ArtifactEntry, ArtifactStore } from '../artifacts/artifact-store.ts';
import type { JobDefinition } from '../core/job-model.ts';
import { artifactKeys } from './artifact-keys.ts';

/** An input that was asked for may be about to become a job's: uploading, decoding and submitting take less than this. */
const IN_USE_MILLIS = 30 * 60_000;

/**
 * How long after the decision to remove inputs a removal may still begin. A coordinator that stood still meanwhile
 * may be deposed, and its successor may have accepted a job that needs them.
 */
const DECISION_HOLDS_MILLIS = 2000;

/** What an {@link InputKeeper} works with. */
export interface InputKeeperParts {
  readonly store: Pick<ArtifactStore, 'list' | 'remove'>;
  readonly clock: Clock;
  /** How long an input that no job needs is kept; null for ever. */
  readonly keepMillis: number | null;
}

/** Removes uploads and prepared inputs that no job needs, and sees to it that none vanishes while it is being submitted. */
export class InputKeeper {
  readonly #store: InputKeeperParts['store'];
  readonly #keepMillis: number | null;
  readonly #clock: Clock;
  /** After being asked for, an input is not removed for this long. */
  readonly inUseMillis: number;
  /** When each input was last asked for, by the monotonic clock. */
  readonly #used = new Map<string, number>();
  readonly #removing = new Map<string, Promise<void>>();

  constructor({ store, clock, keepMillis }: InputKeeperParts) {
    this.inUseMillis = Math.min(IN_USE_MILLIS, keepMillis ?? IN_USE_MILLIS);
    this.#store = store;
    this.#keepMillis = keepMillis;
    this.#clock = clock;
  }

  /** Notes that an input is asked for: from when this resolves on it is not removed for a while. */
  async use(sha256: string): Promise<void> {
    // Where nothing is removed, nobody would ever forget it.
    if (this.#keepMillis !== null) this.#used.set(sha256, this.#clock.monotonic());
    await this.#removing.get(sha256)?.catch(() => undefined);
  }

  /** Takes a note back: the input is not there, so whoever asked has to store it first. */
  absent(sha256: string): void {
    this.#used.delete(sha256);
  }

  /** Inputs that are noted as asked for. */
  get noted(): number {
    return this.#used.size;
  }

  /**
   * Inputs that none of the jobs needs and nobody asked for lately, stored at some time or before.
   *
   * @param jobs definitions of all jobs whose inputs must stay
   * @param before wall-clock milliseconds, inclusive
   */
  async unused(jobs: readonly JobDefinition[], before: number): Promise<readonly string[]> {
    this.#forgetOldUses();
    const entries = await this.#store.list(INPUTS);
    const needed = new Set(jobs.flatMap(inputsOf));
    return entries.filter(({ storedAt }) => storedAt <= before).flatMap((entry) => shaOf(entry, needed, this.#used));
  }

  /**
   * Removes inputs, except those that somebody asked for since the decision.
   *
   * @param decision `decidedAt`: before it was durable that they go, by the monotonic clock; `mayGoOn` is asked before each
   * @returns those that are removed; the others are for the next time
   */
  async remove(
    sha256s: readonly string[],
    { decidedAt, mayGoOn }: { readonly decidedAt: number; readonly mayGoOn: () => boolean },
  ): Promise<readonly string[]> {
    const removed: string[] = [];
    for (const sha256 of sha256s) {
      if (!mayGoOn() || this.#clock.monotonic() - decidedAt > DECISION_HOLDS_MILLIS) break;
      if (this.#used.has(sha256)) continue;
      const removal = this.#store.remove(artifactKeys.input(sha256));
      this.#removing.set(sha256, removal);
      try {
        await removal;
        removed.push(sha256);
      } finally {
        this.#removing.delete(sha256);
      }
    }
    return removed;
  }

  #forgetOldUses(): void {
    const since = this.#clock.monotonic() - this.inUseMillis;
    for (const [sha256, at] of this.#used) if (at < since) this.#used.delete(sha256);
  }
}

const INPUTS = 'inputs';

/** Everything that a job may still read. */
function inputsOf({ imageSha256, audioSha256, reference, modelAudio }: JobDefinition): string[] {
  return [imageSha256, audioSha256, reference.sha256, modelAudio.sha256];
}

function shaOf({ key }: ArtifactEntry, needed: ReadonlySet<string>, used: ReadonlyMap<string, number>): string[] {
  const sha256 = key.slice(INPUTS.length + 1);
  // Whatever else lies there is not ours to remove.
  return /^[0-9a-f]{64}$/.test(sha256) && !needed.has(sha256) && !used.has(sha256) ? [sha256] : [];
}
