import { type Capacity, capacityOf, type Participant } from './carve.ts';

/** A tree in the order of readiness, kept in balance by random-looking ranks: no parent has a lower one than its children. */
interface Tree extends Capacity {
  readonly participant: Participant;
  /** Number of the entry: tells those apart that are ready at the same time. */
  readonly entry: number;
  readonly left: Tree | null;
  readonly right: Tree | null;
}

/**
 * Participants that come and go, and what those of them can do who are ready by some time. Every operation takes steps
 * that grow with the logarithm of their number, so that a round of grants is as much work for each slot however many
 * there are.
 */
export class ParticipantSet {
  #root: Tree | null = null;
  #entries = 0;
  readonly #entryOf = new Map<Participant, number>();

  constructor(participants: Iterable<Participant> = []) {
    for (const participant of participants) this.add(participant);
  }

  get size(): number {
    return this.#entryOf.size;
  }

  /** Takes one in; each only once at a time. */
  add(participant: Participant): void {
    const entry = this.#entries++;
    this.#entryOf.set(participant, entry);
    const [before, after] = split(this.#root, participant.readyIn, entry);
    this.#root = merge(merge(before, tree(participant, entry, null, null)), after);
  }

  /** Lets one go; fine when it is not there. */
  remove(participant: Participant): void {
    const entry = this.#entryOf.get(participant);
    if (entry === undefined) return;
    this.#entryOf.delete(participant);
    const [before, rest] = split(this.#root, participant.readyIn, entry);
    this.#root = merge(before, split(rest, participant.readyIn, entry + 1)[1]);
  }

  /** What those can do together who are ready before a time. */
  readyBefore(time: number): Capacity {
    let rate = 0;
    let offset = 0;
    for (let at = this.#root; at; ) {
      if (at.participant.readyIn >= time) {
        at = at.left;
        continue;
      }
      const own = capacityOf(at.participant);
      rate += own.rate + (at.left?.rate ?? 0);
      offset += own.offset + (at.left?.offset ?? 0);
      at = at.right;
    }
    return { rate, offset };
  }
}

function tree(participant: Participant, entry: number, left: Tree | null, right: Tree | null): Tree {
  const own = capacityOf(participant);
  const rate = (left?.rate ?? 0) + own.rate + (right?.rate ?? 0);
  const offset = (left?.offset ?? 0) + own.offset + (right?.offset ?? 0);
  return { participant, entry, left, right, rate, offset };
}

/** Those that come before the entry in the order of readiness, and the others. */
function split(at: Tree | null, readyIn: number, entry: number): [Tree | null, Tree | null] {
  if (!at) return [null, null];
  const own = at.participant.readyIn;
  if (own < readyIn || (own === readyIn && at.entry < entry)) {
    const [before, after] = split(at.right, readyIn, entry);
    return [tree(at.participant, at.entry, at.left, before), after];
  }
  const [before, after] = split(at.left, readyIn, entry);
  return [before, tree(at.participant, at.entry, after, at.right)];
}

/** One tree of two, all of the first before all of the second. */
function merge(first: Tree | null, second: Tree | null): Tree | null {
  if (!first || !second) return first ?? second;
  return rankOf(first.entry) > rankOf(second.entry)
    ? tree(first.participant, first.entry, first.left, merge(first.right, second))
    : tree(second.participant, second.entry, merge(first, second.left), second.right);
}

/** A number that looks random and is always the same for an entry: the last steps of MurmurHash3. */
function rankOf(entry: number): number {
  let hash = Math.imul(entry + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
