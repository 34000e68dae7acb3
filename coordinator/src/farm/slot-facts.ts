import type { SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { priorSecondsPerClip } from '@clipfarm/shared/model/profiles';
import { longestCallOn, longestJobOn, slotFits } from '@clipfarm/shared/model/slot-fit';
import { type Geometry, geometryKey } from '../core/forecast.ts';

/** What a slot can do with a picture, as far as it follows from what the slot said of itself. */
export interface SlotFacts {
  readonly fits: boolean;
  /** Longest job, and longest model call with its pre-roll, in clips. */
  readonly longestJob: number;
  readonly longestCall: number;
  /** Seconds per clip to assume until something was measured. */
  readonly prior: number;
}

/**
 * Answers what follows from a slot and a picture alone, each pair worked out once. A node that attaches again says
 * anew what its slots are, and what was known of the old ones goes with them.
 */
export class SlotFactsCache {
  readonly #known = new WeakMap<SlotInfo, Map<string, SlotFacts>>();

  /** The facts of a slot and a picture. */
  of(slot: SlotInfo, geometry: Geometry): SlotFacts {
    const byGeometry = this.#known.get(slot) ?? new Map<string, SlotFacts>();
    const key = geometryKey(geometry);
    const known = byGeometry.get(key);
    if (known) return known;
    const facts = {
      fits: slotFits(slot, { ...geometry, clips: 1 }),
      longestJob: longestJobOn(slot, geometry),
      longestCall: longestCallOn(slot, geometry),
      prior: priorSecondsPerClip(slot, geometry),
    };
    this.#known.set(slot, byGeometry.set(key, facts));
    return facts;
  }
}
