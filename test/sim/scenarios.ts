import type { SlotTruth } from './agent.ts';
import { type FaultKind, faultKinds } from './faults.ts';
import type { Random } from './random.ts';
import type { Scenario, SimJob } from './world.ts';

/** Heights of pictures, in pixels: one that every slot can render, and one that some can't. */
const LOW = 384;
const TALL = 720;

/** How large a random farm is. */
export interface Size {
  readonly nodes: number;
  readonly jobs: number;
  readonly faults: number;
}

/** A farm of unlike nodes with jobs of several owners that come over time, and faults of all kinds. */
export function randomScenario(random: Random, size: Size, kinds: readonly FaultKind[] = faultKinds): Scenario {
  const nodes = Array.from({ length: size.nodes }, () =>
    Array.from({ length: random.whole(1, 2) }, (_, n): SlotTruth => {
      const secondsPerClip = 0.5 * 5 ** random.next();
      const warmUpSeconds = random.between(0, 1);
      return {
        slotId: `s${n}`,
        maxHeight: random.chance(0.7) ? TALL : LOW,
        secondsPerClip,
        warmUpSeconds,
        loadSeconds: random.between(0, 4),
        declared: random.chance(0.5),
      };
    }),
  );
  const speed = nodes.flat().reduce((sum, slot) => sum + 1 / slot.secondsPerClip, 0);
  const canBeTall = nodes.flat().some((slot) => slot.maxHeight === TALL);
  const jobs = Array.from({ length: size.jobs }, (_, n): SimJob => {
    const submittedAt = n === 0 ? 0 : random.between(0, 60_000);
    const priority = random.chance(0.2) ? 1 : 0;
    const anchorMode = random.chance(0.7) ? 'first_frame' : 'image';
    const owner = random.pick(['ann', 'bob', 'cy']) ?? 'ann';
    // About a minute and a half of work for the whole farm.
    const clips = Math.max(1, Math.round(((speed * 90) / size.jobs) * random.between(0.2, 1.8)));
    const height = canBeTall && random.chance(0.3) ? TALL : LOW;
    return { clips, owner, priority, anchorMode, submittedAt, height };
  });
  const faultsUntil = 120_000 + 200 * size.faults;
  return { nodes, jobs, faults: size.faults, faultKinds: kinds, faultsUntil, deadline: faultsUntil + 1_800_000 };
}

/** What is known of slots whose speeds spread evenly over a factor of five. */
export interface Unlike {
  readonly slots: number;
  readonly clips: number;
  /** Whether the coordinator knows how fast they are, or has to find out. */
  readonly declared: boolean;
  /** Which of them the coordinator takes first while it knows nothing. */
  readonly first: 'fastest' | 'slowest';
}

/** One job on slots of unlike speed, and nothing goes wrong. */
export function unlikeSlots({ slots, clips, declared, first }: Unlike): Scenario {
  const rising = Array.from({ length: slots }, (_, n) => (slots === 1 ? 1 : 0.5 * 5 ** (n / (slots - 1))));
  const paces = first === 'fastest' ? rising : rising.reverse();
  const nodes = paces.map((secondsPerClip): SlotTruth[] => {
    return [{ slotId: 's0', secondsPerClip, warmUpSeconds: 0.3, loadSeconds: 0, declared, maxHeight: LOW }];
  });
  const job: SimJob = { clips, owner: 'ann', priority: 0, anchorMode: 'first_frame', submittedAt: 2000, height: LOW };
  return { nodes, jobs: [job], faults: 0, faultKinds: [], faultsUntil: 0, deadline: 36_000_000 };
}

/** How large a farm of thousands is, and for how long it is troubled. */
export interface LargeSize extends Size {
  /** Seconds during which the faults happen; there is work for about as long. */
  readonly seconds: number;
}

/** Owners that share a large farm. */
const OWNERS = Array.from({ length: 20 }, (_, n) => `owner-${n}`);

/**
 * Thousands of unlike nodes with clips of the length that real ones have, and so much work that every slot mostly has
 * something to do.
 */
export function largeScenario(random: Random, size: LargeSize): Scenario {
  const nodes = Array.from({ length: size.nodes }, () =>
    Array.from({ length: random.whole(1, 2) }, (_, n): SlotTruth => {
      const secondsPerClip = 4 * 4 ** random.next();
      const times = { warmUpSeconds: random.between(0, 3), loadSeconds: random.between(0, 20) };
      const maxHeight = random.chance(0.7) ? TALL : LOW;
      return { slotId: `s${n}`, maxHeight, secondsPerClip, ...times, declared: random.chance(0.5) };
    }),
  );
  const speed = nodes.flat().reduce((sum, slot) => sum + 1 / slot.secondsPerClip, 0);
  const jobs = Array.from({ length: size.jobs }, (_, n): SimJob => {
    const submittedAt = n === 0 ? 0 : random.between(0, size.seconds * 500);
    const clips = Math.max(1, Math.round(((speed * size.seconds) / size.jobs) * random.between(0.1, 0.7)));
    return {
      ...{ clips, submittedAt, priority: random.chance(0.1) ? 1 : 0 },
      anchorMode: random.chance(0.7) ? 'first_frame' : 'image',
      owner: random.pick(OWNERS) ?? '',
      height: random.chance(0.3) ? TALL : LOW,
    };
  });
  const faultsUntil = size.seconds * 1000;
  return { nodes, jobs, faults: size.faults, faultKinds, faultsUntil, deadline: faultsUntil + 7_200_000 };
}
