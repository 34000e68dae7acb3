/** One who wants to lead. */
export interface Candidate {
  /** Unique for each process that runs. */
  readonly id: string;
  /** `host:port` where clients and agents reach it. */
  readonly address: string;
}

/** The candidate that leads. */
export interface Leader extends Candidate {
  readonly term: number;
}

/** The lead, as its holder has it. */
export interface Leadership {
  /** Higher than every term given out before, also before a restart of everything. */
  readonly term: number;
  /**
   * Aborted, with a FarmError `unavailable` as its reason, when the lead is lost or its lease can't be renewed in time: at
   * the latest shortly before the lease runs out, by the monotonic clock. Not aborted by the holder's own `release`.
   */
  readonly lost: AbortSignal;
  /**
   * Whether the lead is still held, by the monotonic clock at this moment: a process that stood still knows before its timers
   * run. Where it isn't, `lost` is aborted from here on, unless the holder released it.
   */
  holds(): boolean;
  /** Hands over at once; does nothing when the lead is lost already. Never throws: a lease that can't be given back runs out. */
  release(): Promise<void>;
}

/** Decides who of several coordinators leads. At most one holds an unexpired lease at any time. */
export interface Election {
  /**
   * Waits until the candidate is elected, however long that takes and whatever the state of the network.
   *
   * @throws the signal's reason when it is aborted first.
   */
  campaign(candidate: Candidate, signal: AbortSignal): Promise<Leadership>;
  /** The leader as far as known here: it may lag behind by about the time of a lease. */
  current(): Leader | null;
  /**
   * When the leader before the current one, or the last one while nobody leads, gave its last sign: a renewal, or that it
   * gave the lead up. In milliseconds of the monotonic clock; null where none was known here, or nobody can tell.
   */
  vacantSince(): number | null;
  /** Calls the handler whenever `current` changes. Returns the function that ends it. */
  onChange(handler: (leader: Leader | null) => void): () => void;
  /** Gives the lead back if it is held here and stops. To be called before the journal is closed. */
  close(): Promise<void>;
}
