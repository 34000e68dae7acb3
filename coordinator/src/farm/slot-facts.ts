import type { SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { priorSecondsPerClip, slotFits } from '@clipfarm/shared/model/profiles';
import { type Geometry, geometryKey } from '../core/forecast.ts';

/** What a slot can do with a picture, as far as it follows from what the slot said of itself. */
export interface SlotFacts {
  readonly fits: boolean;
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
    const facts = { fits: slotFits(slot, geometry), prior: priorSecondsPerClip(slot.profile, geometry) };
    this.#known.set(slot, byGeometry.set(key, facts));
    return facts;
  }
}
