/** Someone who will render clips of a job: a slot that is free now, or one that will be. */
export interface Participant {
  /** Seconds from now until its first own clip can begin: what it still has in hand, warm-up, pre-roll. */
  readonly readyIn: number;
  readonly secondsPerClip: number;
}

/** What participants can do together: clips by time T are `T x rate - offset`, once all of them are ready. */
export interface Capacity {
  /** Clips a second. */
  readonly rate: number;
  /** Clips that they would have rendered until they are ready. */
  readonly offset: number;
}

/** What one can do. */
export function capacityOf({ readyIn, secondsPerClip }: Participant): Capacity {
  return { rate: 1 / secondsPerClip, offset: readyIn / secondsPerClip };
}

/**
 * Seconds from now at which `clips` are done when every participant works until then: the T with
 * sum(max(0, T - readyIn) / secondsPerClip) = clips.
 *
 * @returns Infinity without participants, 0 without clips
 */
export function finishTime(clips: number, participants: readonly Participant[]): number {
  return finishTimeOf(clips, (time) => {
    let rate = 0;
    let offset = 0;
    for (const { readyIn, secondsPerClip } of participants) {
      if (readyIn >= time) continue;
      rate += 1 / secondsPerClip;
      offset += readyIn / secondsPerClip;
    }
    return { rate, offset };
  });
}

/**
 * {@link finishTime} of participants of whom only this is known: what those can do together who are ready before some
 * time. Exact: who is not ready by then is left out, which makes it later for nobody, until everyone who is left is
 * ready. A few passes, whoever they are.
 */
export function finishTimeOf(clips: number, readyBefore: (time: number) => Capacity): number {
  if (clips <= 0) return 0;
  for (let time = Number.POSITIVE_INFINITY; ; ) {
    const { rate, offset } = readyBefore(time);
    const next = (clips + offset) / rate;
    // Written so that no number whatever, not even NaN, keeps it from ending.
    if (!(next < time)) return time;
    time = next;
  }
}

/**
 * How many clips to carve for one participant, so that all finish together. Rounded to the nearest clip; 0 means that
 * the others are done before this one could be of use.
 *
 * @param others everyone else who will work on the same clips
 */
export function carveCount(clips: number, self: Participant, others: readonly Participant[]): number {
  return shareBy(finishTime(clips, [self, ...others]), clips, self);
}

/** {@link carveCount} beside others of whom only this is known: what those can do who are ready before some time. */
export function carveBeside(clips: number, self: Participant, othersBefore: (time: number) => Capacity): number {
  const own = capacityOf(self);
  const time = finishTimeOf(clips, (before) => {
    const others = othersBefore(before);
    if (self.readyIn >= before) return others;
    return { rate: own.rate + others.rate, offset: own.offset + others.offset };
  });
  return shareBy(time, clips, self);
}

/** Clips that a participant has done by the time at which all are done. */
function shareBy(time: number, clips: number, self: Participant): number {
  const share = Math.round((time - self.readyIn) / self.secondsPerClip);
  return Math.min(clips, Math.max(0, share));
}

/**
 * How many clips of its share a participant takes whose lease can't be shortened later: half of it, so that ranges get
 * smaller towards the end (guided self-scheduling) and an error of the forecast is made up for by the next one; but
 * neither takes nor leaves so few that getting ready takes longer than rendering them.
 */
export function guidedCount(share: number, self: Participant): number {
  const worthwhile = Math.ceil(self.readyIn / self.secondsPerClip);
  const count = Math.max(Math.ceil(share / 2), worthwhile);
  return share - count < worthwhile ? share : count;
}

/** A lease that a free slot could relieve. */
export interface Victim {
  /** Clip in hand; from the first pre-roll clip up. */
  readonly current: number;
  /** Share of it that is done. */
  readonly fraction: number;
  readonly start: number;
  readonly end: number;
  readonly secondsPerClip: number;
  /** Seconds until it begins to render, while it is still warming up. */
  readonly readyIn: number;
}

/** What stealing would do. */
export interface Steal {
  /** The victim keeps `[start, newEnd)`, the thief gets `[newEnd, end)`. */
  readonly newEnd: number;
  /** Seconds by which the range is done earlier. */
  readonly saved: number;
}

/** Seconds until a lease is done. */
export function secondsLeft(v: Victim): number {
  return v.readyIn + Math.max(0, v.end - v.current - v.fraction) * v.secondsPerClip;
}

/**
 * The best clip boundary at which a free slot takes over the tail of a lease, or null when that would not pay: what is
 * saved must exceed what it costs (the thief's pre-roll and warm-up) and `minSaving`. The clip in hand stays where it is.
 *
 * @param thief `readyIn` is its warm-up and pre-roll
 * @param minSaving seconds
 * @param busyUntil seconds; what the victim has done by then stays with it, so that it need not look for more
 * @param limit clips that the thief can take at most
 */
export function bestSteal(
  victim: Victim,
  thief: Participant,
  minSaving: number,
  busyUntil = 0,
  limit = Number.POSITIVE_INFINITY,
): Steal | null {
  const before = secondsLeft(victim);
  const done = Math.floor(victim.current + victim.fraction + (busyUntil - victim.readyIn) / victim.secondsPerClip);
  const firstFree = Math.max(victim.current + 1, victim.start + 1, done);
  const most = Math.min(victim.end - firstFree, limit);
  const share = (before - thief.readyIn) / (victim.secondsPerClip + thief.secondsPerClip);
  let best: Steal | null = null;
  for (const count of [Math.min(most, Math.floor(share)), Math.min(most, Math.ceil(share))]) {
    if (count < 1) continue;
    const newEnd = victim.end - count;
    const after = Math.max(secondsLeft({ ...victim, end: newEnd }), thief.readyIn + count * thief.secondsPerClip);
    const saved = before - after;
    if (saved > Math.max(minSaving, thief.readyIn) && saved > (best?.saved ?? 0)) best = { newEnd, saved };
  }
  return best;
}
