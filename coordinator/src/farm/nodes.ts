import { randomUUID } from 'node:crypto';
import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Hello, SlotStatus } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Gpu, SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { isQuarantined, type NodeFailure, quarantineUntil } from '../core/failure-policy.ts';
import type { Journal, StoredEvent } from '../journal/journal.ts';
import { findKeptNode, findNode } from './find-node.ts';
import { Mutex } from './mutex.ts';
import { isAway, type NodeFields, type NodeRecord, type NodeStatus, newRecord } from './node-record.ts';
import type { Office } from './office.ts';
import type { SnapshotKeeper } from './snapshot-keeper.ts';
import { Stream } from './stream.ts';

/** What the journal keeps of nodes: who they are and what operators and the farm decided about them. */
export type NodeEvent =
  /** `farmId` is the first one for ever. */
  | { readonly type: 'TermOpened'; readonly term: number; readonly farmId: string }
  | { readonly type: 'NodeRegistered'; readonly nodeId: string; readonly name: string; readonly pool: string }
  | { readonly type: 'NodeDrained'; readonly nodeId: string; readonly reason: string }
  | { readonly type: 'NodeUndrained'; readonly nodeId: string }
  /** Its agent said goodbye. Attaching again, it is registered again. */
  | { readonly type: 'NodeLeft'; readonly nodeId: string; readonly reason: string }
  /** Nothing is heard of it; so that whoever leads next knows since when. Attaching again, it is registered again. */
  | { readonly type: 'NodeLost'; readonly nodeId: string }
  /** It was away for so long that nobody waits for it; should it attach again, it is registered again. */
  | { readonly type: 'NodeForgotten'; readonly nodeId: string }
  | { readonly type: 'NodeQuarantined'; readonly nodeId: string; readonly until: number; readonly reason: string };

const STREAM = 'farm';

/** What nodes are kept with. */
export interface NodesParts {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly office: Office;
  readonly snapshots: SnapshotKeeper;
}

/** What the journal's events have told of all nodes, as JSON carries it. */
interface NodesSnapshot {
  readonly version: number;
  readonly farmId: string;
  readonly nodes: readonly (Pick<
    NodeRecord,
    'nodeId' | 'name' | 'pool' | 'drainReason' | 'quarantinedUntil' | 'quarantineReason'
  > &
    // Snapshots of versions that recorded no goodbye, or no loss, have none.
    Partial<Pick<NodeRecord, 'left' | 'lostAt'>>)[];
}

/**
 * Raised whenever the form of the snapshot or the meaning of an event changes. Whoever raises it goes on reading the forms before,
 * because the events that they cover are gone.
 */
const SNAPSHOT_VERSION = 1;

/** Agents wait up to three seconds between attempts to attach; a new leader gives them this much on top of a lease. */
const REATTACH_MILLIS = 5000;

/** Failures of a node that are kept: all of its slots fail together when it is lost, and several times have to be told apart. */
const KEPT_FAILURES = 200;

/** Most characters of a reason that an agent gives. */
const MAX_REASON = 2000;

/** What an agent said of a slot, no longer than the protocol allows. */
function bounded(status: SlotStatus): SlotStatus {
  return { ...status, stateReason: status.stateReason.slice(0, MAX_REASON) };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** All nodes that attached, save those that stayed away for long. Presence is in memory; identity and decisions are in the journal. */
export class Nodes {
  readonly #clock: Clock;
  readonly #office: Office;
  readonly #records = new Map<string, NodeRecord>();
  readonly #stream: Stream<NodeEvent>;
  readonly #mutex = new Mutex();
  readonly #forgotten: ((nodeId: string) => void)[] = [];
  #farmId = '';

  private constructor({ journal, clock, office, snapshots }: NodesParts) {
    this.#clock = clock;
    this.#office = office;
    const fold = (event: NodeEvent, at: number) => {
      this.#fold(event, at);
      if (office.leads && this.#stream.snapshotDue) snapshots.request(this.#stream);
    };
    this.#stream = new Stream<NodeEvent>(journal, STREAM, fold, {
      pack: () => this.#pack(),
      unpack: (data) => this.#unpack(data as NodesSnapshot),
      weight: () => this.#records.size,
      trims: true,
    });
  }

  /** Reads the nodes from the journal and follows it from there on. */
  static async load(parts: NodesParts): Promise<Nodes> {
    const nodes = new Nodes(parts);
    parts.journal.watch((events) => {
      for (const event of events) if (event.stream === STREAM) nodes.#heard(event);
    });
    await nodes.#stream.load();
    // An event that came while it loaded is no reason to miss it until the next take-over.
    await nodes.#stream.catchUp();
    return nodes;
  }

  /**
   * Takes the nodes over for a new term: an earlier leader's appends fail from here on, and every lease is armed anew
   * for one lease time and the time that agents need to attach.
   */
  async takeOver(): Promise<void> {
    await this.#stream.catchUp();
    await this.#append(() => [{ type: 'TermOpened', term: this.#office.term, farmId: this.#farmId || randomUUID() }]);
    // Last: no agent is welcomed before, however long the rest takes.
    for (const node of this.#records.values()) this.#arm(node);
  }

  #heard(event: StoredEvent): void {
    // What was missed may be gone, and then no later event would do either. The next take-over closes a gap at the latest.
    if (!this.#stream.take(event)) void this.#stream.catchUp().catch(() => undefined);
  }

  /** Identity of the farm, as old as its journal; empty before anybody has led. */
  get farmId(): string {
    return this.#farmId;
  }

  #fold(event: NodeEvent, at: number): void {
    if (event.type === 'TermOpened') {
      this.#farmId ||= event.farmId;
      return;
    }
    const record = this.#records.get(event.nodeId);
    if (event.type === 'NodeRegistered') {
      if (record) Object.assign(record, { name: event.name, pool: event.pool, left: null, lostAt: null });
      else this.#records.set(event.nodeId, newRecord(event, this.#clock.monotonic() + REATTACH_MILLIS));
      return;
    }
    if (!record) return;
    switch (event.type) {
      case 'NodeForgotten':
        this.#forget(event.nodeId);
        break;
      case 'NodeLost':
        record.lostAt = at;
        break;
      case 'NodeLeft':
        record.left = { at, reason: event.reason };
        break;
      case 'NodeDrained':
        record.drainReason = event.reason;
        break;
      case 'NodeUndrained':
        record.drainReason = null;
        record.quarantinedUntil = 0;
        record.failures = [];
        break;
      case 'NodeQuarantined':
        record.quarantinedUntil = event.until;
        record.quarantineReason = event.reason;
        record.failures = [];
        break;
    }
  }

  #forget(nodeId: string): void {
    this.#records.delete(nodeId);
    for (const listener of this.#forgotten) listener(nodeId);
  }

  /** Hears of every node that is forgotten, whoever leads. */
  onForgotten(listener: (nodeId: string) => void): void {
    this.#forgotten.push(listener);
  }

  #pack(): NodesSnapshot {
    const nodes = [...this.#records.values()].map((record) => {
      const { nodeId, name, pool, drainReason, quarantinedUntil, quarantineReason, left, lostAt } = record;
      return { nodeId, name, pool, drainReason, quarantinedUntil, quarantineReason, left, lostAt };
    });
    return { version: SNAPSHOT_VERSION, farmId: this.#farmId, nodes };
  }

  #unpack({ version, farmId, nodes }: NodesSnapshot): boolean {
    if (version !== SNAPSHOT_VERSION) return false;
    this.#farmId = farmId;
    const lastSeen = this.#clock.monotonic() + REATTACH_MILLIS;
    const told = new Set(nodes.map(({ nodeId }) => nodeId));
    for (const nodeId of this.#records.keys()) if (!told.has(nodeId)) this.#forget(nodeId);
    for (const node of nodes) {
      const known = this.#records.get(node.nodeId) ?? newRecord(node, lastSeen);
      this.#records.set(node.nodeId, Object.assign(known, { left: null, lostAt: null }, node));
    }
    return true;
  }

  #arm(node: NodeRecord): void {
    node.connected = false;
    node.lost = false;
    // Who led meanwhile may have heard of it since.
    node.lastSeenAt = 0;
    node.lastSeen = this.#clock.monotonic() + REATTACH_MILLIS;
  }

  #append(decide: () => readonly NodeEvent[]): Promise<unknown> {
    const meta = () => ({ at: this.#clock.now(), term: this.#office.term });
    return this.#mutex.run(() => this.#stream.append(() => ({ events: decide() }), meta));
  }

  /** Takes in a node that attached. Durable only where something about it is new. */
  async register(hello: Hello): Promise<NodeRecord> {
    const { nodeId, name, pool } = hello;
    await this.#append(() => {
      const known = this.#records.get(nodeId);
      const isNews = known?.name !== name || known.pool !== pool || known.left !== null || known.lostAt !== null;
      return !isNews ? [] : [{ type: 'NodeRegistered', nodeId, name, pool }];
    });
    const record = this.#require(nodeId);
    record.version = hello.version;
    record.slots = hello.slots;
    record.gpus = hello.gpus;
    record.statuses = new Map();
    record.connected = true;
    record.handingIn = hello.spooledChunks > 0;
    this.seen(nodeId);
    return record;
  }

  /** Notes that a slot of a node is no longer what it said when it attached. */
  slotChanged(nodeId: string, slot: SlotInfo): void {
    const record = this.#records.get(nodeId);
    if (record) record.slots = record.slots.map((known) => (known.slotId === slot.slotId ? slot : known));
  }

  /** Nodes that were there in an earlier term, have not attached in this one, and still have the time for it. */
  get awaited(): readonly NodeRecord[] {
    const now = this.#clock.monotonic();
    return [...this.#records.values()].filter((node) => !node.connected && !isAway(node) && node.lastSeen > now);
  }

  /** Notes a sign of life. */
  seen(nodeId: string): void {
    const record = this.#records.get(nodeId);
    if (!record) return;
    record.lastSeen = this.#clock.monotonic();
    record.lastSeenAt = this.#clock.now();
    record.lost = false;
  }

  /**
   * Notes what the slots do; what is said of a slot that the node doesn't have is passed over.
   *
   * @param gpus as they were read last; none where they were not read anew
   */
  reported(nodeId: string, statuses: readonly SlotStatus[], gpus: readonly Gpu[] = []): void {
    const record = this.#records.get(nodeId);
    if (!record) return;
    const known = new Set(record.slots.map(({ slotId }) => slotId));
    const own = statuses.filter(({ slotId }) => known.has(slotId));
    record.statuses = new Map(own.map((status) => [status.slotId, bounded(status)]));
    if (gpus.length > 0) record.gpus = gpus;
  }

  /** Notes that the spool which a node attached with is dealt with. */
  handedIn(nodeId: string): void {
    const record = this.#records.get(nodeId);
    if (record) record.handingIn = false;
  }

  /**
   * Notes durably that a node's agent has left in order: it is away, and not lost, until it attaches again.
   *
   * @throws FarmError `unavailable` when this coordinator does not lead; what the journal throws when it can't be written
   */
  async left(nodeId: string, reason: string): Promise<void> {
    const said = reason.slice(0, MAX_REASON);
    await this.#append(() => (this.#records.has(nodeId) ? [{ type: 'NodeLeft', nodeId, reason: said }] : []));
  }

  /** Milliseconds since a node's last sign of life; 0 where it is not known. */
  silence(nodeId: string): number {
    const record = this.#records.get(nodeId);
    return record ? Math.max(0, this.#clock.monotonic() - record.lastSeen) : 0;
  }

  /** Notes that the link is over; unless it has left, the node is not lost before its lease time is over. */
  disconnected(nodeId: string): void {
    const record = this.#records.get(nodeId);
    if (record) record.connected = false;
  }

  /** Marks nodes without a sign of life for `leaseMillis` as lost, save those that have left, and returns those newly lost. */
  expire(leaseMillis: number): NodeRecord[] {
    const deadline = this.#clock.monotonic() - leaseMillis;
    const late = [...this.#records.values()].filter((node) => !isAway(node) && node.lastSeen < deadline);
    for (const node of late) node.lost = true;
    return late;
  }

  /** Gives every node more time: the coordinator itself stood still and could not hear them. */
  forgive(millis: number): void {
    for (const node of this.#records.values()) node.lastSeen += millis;
  }

  /**
   * Forgets nodes that are away for so long: hosts of pools that come and go have another identity each time. What an operator
   * or the farm decided about a node is kept, and with it the node. Since when they are away is recorded: coordinators may
   * follow each other faster than that.
   *
   * @throws FarmError `unavailable` when this coordinator does not lead; what the journal throws when it can't be written
   */
  async forgetAway(millis: number): Promise<readonly NodeRecord[]> {
    const isLost = (node: NodeRecord) => node.lost && !node.connected && node.left === null && node.lostAt === null;
    for (const node of this.all().filter(isLost))
      await this.#append(() => (isLost(node) ? [{ type: 'NodeLost', nodeId: node.nodeId }] : []));
    const since = this.#clock.monotonic() - millis;
    const isForgotten = (node: NodeRecord) =>
      isAway(node) &&
      !node.connected &&
      (node.lastSeen < since || this.#awaySince(node) < this.#clock.now() - millis) &&
      node.drainReason === null &&
      !this.#isQuarantined(node);
    const away = [...this.#records.values()].filter(isForgotten);
    for (const node of away)
      await this.#append(() => (isForgotten(node) ? [{ type: 'NodeForgotten', nodeId: node.nodeId }] : []));
    return away;
  }

  /** Wall-clock milliseconds since which a node is away, as far as is recorded or was seen. */
  #awaySince({ left, lostAt, lastSeenAt }: NodeRecord): number {
    return Math.max(left?.at ?? lostAt ?? Number.POSITIVE_INFINITY, lastSeenAt);
  }

  /** Notes a failed attempt; quarantines the node when the policy says so, and then returns the reason. */
  async noteFailure(nodeId: string, failure: NodeFailure): Promise<string | null> {
    const record = this.#records.get(nodeId);
    if (!record) return null;
    record.failures = [...record.failures, failure].slice(-KEPT_FAILURES);
    const until = quarantineUntil(record.failures, this.#clock.now());
    if (until === null) return null;
    const reason = `${record.failures.length} failed attempts, the last one ${failure.failureClass}`;
    // At once, so that the next failure does not quarantine it a second time.
    record.failures = [];
    await this.#append(() => [{ type: 'NodeQuarantined', nodeId, until, reason }]);
    return reason;
  }

  /** Notes a committed clip: the node works. */
  noteSuccess(nodeId: string): void {
    const record = this.#records.get(nodeId);
    if (!record) return;
    record.failures = [];
    record.clipsCommitted += 1;
  }

  /** Lets a node take nothing new, until {@link undrain}. @throws FarmError as {@link find} does */
  async drain(idOrName: string, reason: string): Promise<NodeRecord> {
    const record = this.find(idOrName);
    if (record.drainReason !== null) return record;
    await this.#append(() => [{ type: 'NodeDrained', nodeId: record.nodeId, reason }]);
    return record;
  }

  /** Lets a drained or quarantined node work again. @throws FarmError as {@link find} does */
  async undrain(idOrName: string): Promise<NodeRecord> {
    const record = this.findKept(idOrName);
    await this.#append(() => [{ type: 'NodeUndrained', nodeId: record.nodeId }]);
    return record;
  }

  /**
   * A node by identity or name: of several of the name the one that is there.
   *
   * @throws FarmError `not_found`; `invalid_argument` with their identities when several may be meant
   */
  find(idOrName: string): NodeRecord {
    return findNode(this.all(), idOrName);
  }

  /** A node as {@link find} has it, but of several of the name one that is drained or quarantined. */
  findKept(idOrName: string): NodeRecord {
    return findKeptNode(this.all(), idOrName, (node) => node.drainReason !== null || this.#isQuarantined(node));
  }

  /** What a log line about a node names it by: operators know its name. */
  fieldsOf(nodeId: string): NodeFields {
    const name = this.#records.get(nodeId)?.name;
    return { node_id: nodeId, ...(name === undefined ? {} : { node: name }) };
  }

  /** A node by identity, if it ever attached. */
  get(nodeId: string): NodeRecord | undefined {
    return this.#records.get(nodeId);
  }

  /** All nodes by name, those of the same name by identity. */
  all(): NodeRecord[] {
    return [...this.#records.values()].sort((a, b) => compare(a.name, b.name) || compare(a.nodeId, b.nodeId));
  }

  /** Where a node stands now. */
  status(node: NodeRecord): NodeStatus {
    if (node.left !== null) return 'left';
    if (node.lost || !node.connected) return 'lost';
    if (node.drainReason !== null) return 'draining';
    return this.#isQuarantined(node) ? 'quarantined' : 'online';
  }

  #isQuarantined(node: NodeRecord): boolean {
    return isQuarantined(node.quarantinedUntil, this.#clock.now());
  }

  #require(nodeId: string): NodeRecord {
    const record = this.#records.get(nodeId);
    if (!record) throw new FarmError('internal', `node ${nodeId} vanished`);
    return record;
  }
}
