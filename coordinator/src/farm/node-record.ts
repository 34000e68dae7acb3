import type { SlotStatus } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Gpu, SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { NodeFailure } from '../core/failure-policy.ts';

/** Where a node stands. */
export type NodeStatus = 'online' | 'left' | 'lost' | 'draining' | 'quarantined';

/** How a node's agent left in order. */
export interface Farewell {
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly reason: string;
}

/** A node as the coordinator knows it. */
export interface NodeRecord {
  readonly nodeId: string;
  name: string;
  pool: string;
  version: string;
  slots: readonly SlotInfo[];
  gpus: readonly Gpu[];
  statuses: ReadonlyMap<string, SlotStatus>;
  /** Monotonic milliseconds of the last sign of life; leases hold for one lease time from then. */
  lastSeen: number;
  /** Wall-clock milliseconds of it, 0 when it was not seen since this coordinator leads. */
  lastSeenAt: number;
  connected: boolean;
  lost: boolean;
  /** Set from its goodbye until it attaches again. */
  left: Farewell | null;
  /** Wall-clock milliseconds at which it was recorded as lost, until it attaches again. */
  lostAt: number | null;
  /** It attached with chunks in its spool that are not judged yet; until then it gets nothing new. */
  handingIn: boolean;
  drainReason: string | null;
  quarantinedUntil: number;
  quarantineReason: string;
  failures: readonly NodeFailure[];
  clipsCommitted: number;
}

/** What a log line names a node by; the name is left out where the node is not known. */
export interface NodeFields {
  readonly node_id: string;
  readonly node?: string;
}

/** Whether nobody waits for a node's agent: it is lost, or has left. */
export function isAway(node: NodeRecord): boolean {
  return node.lost || node.left !== null;
}

/**
 * A node that is known from the journal only.
 *
 * @param lastSeen monotonic milliseconds from which its time runs
 */
export function newRecord(event: Pick<NodeRecord, 'nodeId' | 'name' | 'pool'>, lastSeen: number): NodeRecord {
  return {
    nodeId: event.nodeId,
    name: event.name,
    pool: event.pool,
    version: '',
    slots: [],
    gpus: [],
    statuses: new Map(),
    lastSeen,
    lastSeenAt: 0,
    connected: false,
    lost: false,
    left: null,
    lostAt: null,
    handingIn: false,
    drainReason: null,
    quarantinedUntil: 0,
    quarantineReason: '',
    failures: [],
    clipsCommitted: 0,
  };
}
