import { FarmError } from '@clipfarm/shared/errors';
import { isAway, type NodeRecord } from './node-record.ts';

/** Which of several nodes is meant: those of the first kind that there are any of. */
type Preference = readonly ((node: NodeRecord) => boolean)[];

const isPresent = (node: NodeRecord) => node.connected && !isAway(node);

/** Whoever names a node means one that is there; a host that was set up anew leaves its old identity behind under its name. */
const present: Preference = [isPresent, (node) => !isAway(node), () => true];

/**
 * The node that is meant by an identity or a name: of several of the name the one that is there.
 *
 * @throws FarmError `not_found`; `invalid_argument` with their identities when several may be meant
 */
export function findNode(nodes: readonly NodeRecord[], idOrName: string): NodeRecord {
  return choose(nodes, idOrName, present);
}

/**
 * The node that is to work again: of several of the name the one that a decision keeps from it, also if it is away.
 *
 * @param isKept whether it is drained or quarantined
 * @throws FarmError as {@link findNode} does
 */
export function findKeptNode(
  nodes: readonly NodeRecord[],
  idOrName: string,
  isKept: (node: NodeRecord) => boolean,
): NodeRecord {
  return choose(nodes, idOrName, [(node) => isPresent(node) && isKept(node), isKept, ...present]);
}

function choose(nodes: readonly NodeRecord[], idOrName: string, preference: Preference): NodeRecord {
  const exact = nodes.find(({ nodeId }) => nodeId === idOrName);
  if (exact) return exact;
  const named = nodes.filter(({ name }) => name === idOrName);
  const [best = []] = preference.map((isMeant) => named.filter(isMeant)).filter((some) => some.length > 0);
  const [found, ...others] = best;
  if (!found) {
    throw new FarmError('not_found', `there is no node "${idOrName}"`, { field: 'node_id', hint: 'clipfarm nodes' });
  }
  if (others.length === 0) return found;
  const ids = best.map(({ nodeId }) => nodeId).sort();
  throw new FarmError(
    'invalid_argument',
    `node_id: "${idOrName}" is the name of ${best.length} nodes; accepted: the identity of one, ${ids.join(' or ')}`,
    { field: 'node_id' },
  );
}
