import { hostBytesToLoad, loadsAtOnce } from '@clipfarm/shared/model/host-cost';
import { hostUseOf, profileOf } from '@clipfarm/shared/model/profiles';
import type { RunnerProfile } from './profile.ts';

/**
 * Lets only so many runners load at a time as the host's memory holds: while a model is loaded, its text encoder is in
 * memory more than twice. Slots without a limit on the host's memory don't wait.
 */
export class LoadGate {
  readonly #most: number;
  #loading = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param profiles of all slots of the host */
  constructor(profiles: readonly RunnerProfile[]) {
    const slots = profiles.map(({ slot }) => slot).filter(({ hostMemoryBytes }) => hostMemoryBytes > 0);
    const [first] = slots;
    const use = first && hostUseOf(profileOf(first));
    const total = slots.reduce((sum, { hostMemoryBytes }) => sum + hostMemoryBytes, 0);
    this.#most = use ? loadsAtOnce(Math.max(total, hostBytesToLoad(use)), slots.length, use) : Number.POSITIVE_INFINITY;
  }

  /** Waits until there is room to load. @returns what to call when loading is over, however it ended */
  async enter(): Promise<() => void> {
    if (this.#loading >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#loading += 1;
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      const next = this.#waiting.shift();
      // The place is handed on.
      if (next) next();
      else this.#loading -= 1;
    };
  }
}
