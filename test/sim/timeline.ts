interface Entry {
  readonly time: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Virtual time: what is due is run in the order of its time, and at equal times in the order in which it was asked for. */
export class Timeline {
  /** Milliseconds since the beginning. */
  now = 0;
  #order = 0;
  readonly #heap: Entry[] = [];

  /** Runs something after `delay` milliseconds. @returns a function that calls it off */
  after(delay: number, run: () => void): () => void {
    const entry: Entry = { time: this.now + Math.max(0, delay), order: this.#order, run, cancelled: false };
    this.#order += 1;
    this.#push(entry);
    return () => {
      entry.cancelled = true;
    };
  }

  /** Runs something every `period` milliseconds, for as long as it returns true. */
  every(period: number, run: () => boolean): void {
    this.after(period, () => {
      if (run()) this.every(period, run);
    });
  }

  /** Runs the next thing that is due; false when nothing is. */
  step(): boolean {
    for (let entry = this.#pop(); entry; entry = this.#pop()) {
      if (entry.cancelled) continue;
      this.now = entry.time;
      entry.run();
      return true;
    }
    return false;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (!above || isBefore(above, entry)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const left = heap[child];
      const right = heap[child + 1];
      if (left && right && isBefore(right, left)) child += 1;
      const below = heap[child];
      if (!below || isBefore(last, below)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
