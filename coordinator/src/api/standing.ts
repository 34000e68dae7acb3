import type { NodeStatus } from '../farm/node-record.ts';

/** Where a node stands, and why, as people read it. */
export interface Standing {
  readonly name: string;
  readonly status: NodeStatus;
  /** Why; empty where nothing more is to be said. */
  readonly reason: string;
}

/** Those that somebody can put right with a word come first. */
const ORDER: readonly NodeStatus[] = ['draining', 'quarantined', 'lost', 'left'];

const words = {
  online: 'is online',
  draining: 'is drained',
  quarantined: 'is quarantined',
  lost: 'is lost',
  left: 'has left',
} as const satisfies { readonly [S in NodeStatus]: string };

/** Nodes that are named, each with its reason; of the others there is only their number. */
const MOST_NAMED = 3;

/** Why a node takes no work, in words that follow its name: "is drained: new disk". */
export function standingWords({ status, reason }: Omit<Standing, 'name'>): string {
  return reason === '' ? words[status] : `${words[status]}: ${reason}`;
}

/** What a job waits for where no node takes work. */
export function whyNoNode(nodes: readonly Standing[]): string {
  const away = ORDER.flatMap((status) => nodes.filter((node) => node.status === status));
  const named = away.slice(0, MOST_NAMED).map((node) => `${node.name} ${standingWords(node)}`);
  const more = away.length > MOST_NAMED ? [`and ${away.length - MOST_NAMED} more`] : [];
  // A drained or quarantined node is there, only not for work.
  const isSomeoneThere = away.some(({ status }) => status === 'draining' || status === 'quarantined');
  return `waits for a node: ${[...(isSomeoneThere ? [] : ['none is online']), ...named, ...more].join('; ')}`;
}
