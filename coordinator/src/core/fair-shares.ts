import type { JobState } from './job-model.ts';

/** Seconds for which a slot that is held now counts as used already. */
const HOLDING_SECONDS = 300;

/** Who has and had how much of the farm, by owner. */
export interface FairShares {
  /**
   * Recent slot-seconds, plus what the slots held now will come to. Without the second part the owner who is a little
   * behind would get every slot that comes free until he is ahead, and then the other one, and so on.
   */
  readonly expected: ReadonlyMap<string, number>;
  /** Counts a slot of the one job as the other's as soon as it is free. */
  move(from: JobState, to: JobState): void;
  /**
   * Whether a slot of `holder` should go to `waiting`, a job of the same priority: its owner has fewer slots even then,
   * and it would still be the first to be asked when the slot is free, whether or not what was moved has moved by then.
   */
  evensOut(waiting: JobState, holder: JobState): boolean;
}

/**
 * The shares as they are.
 *
 * @param usage recent slot-seconds by owner
 */
export function fairShares(usage: ReadonlyMap<string, number>, jobs: readonly JobState[]): FairShares {
  const held = new Map<string, number>();
  for (const { definition, leases } of jobs) add(held, definition.owner, leases.size);
  const expected = new Map(usage);
  for (const [owner, slots] of held) add(expected, owner, HOLDING_SECONDS * slots);
  const moved = new Map<string, number>();
  const slotsOf = ({ definition }: JobState) => held.get(definition.owner) ?? 0;
  const movedOf = ({ definition }: JobState) => moved.get(definition.owner) ?? 0;
  const expectedOf = ({ definition }: JobState) => expected.get(definition.owner) ?? 0;
  return {
    expected,
    move(from, to) {
      add(moved, from.definition.owner, -1);
      add(moved, to.definition.owner, 1);
    },
    evensOut(waiting, holder) {
      const slots = slotsOf(holder) - slotsOf(waiting);
      const seconds = expectedOf(holder) - expectedOf(waiting);
      const shift = Math.min(0, movedOf(holder) - movedOf(waiting));
      return slots + shift >= 2 && seconds + shift * HOLDING_SECONDS > HOLDING_SECONDS;
    },
  };
}

function add(map: Map<string, number>, owner: string, amount: number): void {
  map.set(owner, (map.get(owner) ?? 0) + amount);
}
