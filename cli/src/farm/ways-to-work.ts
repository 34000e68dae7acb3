import { type Node, NodeState, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { shellWord } from '../render/shell-word.ts';

/** Nodes that are named; of the others there is only their number. */
const MOST_NAMED = 3;

/** Names as a sentence has them. */
export function listed(names: readonly string[]): string {
  const named = names.slice(0, MOST_NAMED);
  const more = names.length - named.length;
  const all = more === 0 ? named : [...named, `${more} more`];
  return all.length < 2 ? all.join() : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
}

/** Why a node that is not online takes no work, beginning with its name; undefined of one that is online. */
export function whyAway({ name, state, stateReason }: Node): string | undefined {
  const words = wordsOf[state];
  if (words === undefined) return undefined;
  return stateReason === '' ? `${name} ${words}` : `${name} ${words}: ${stateReason}`;
}

const wordsOf: { readonly [S in NodeState]?: string } = {
  [NodeState.NODE_STATE_DRAINING]: 'is drained',
  [NodeState.NODE_STATE_QUARANTINED]: 'is quarantined',
  [NodeState.NODE_STATE_LOST]: 'is lost',
  [NodeState.NODE_STATE_LEFT]: 'has left',
};

/** How each kind of node that takes no work is brought to take some, by the names of all of the kind. */
const ways: readonly (readonly [NodeState, (names: readonly string[]) => string])[] = [
  [NodeState.NODE_STATE_DRAINING, (names) => `Let ${listed(names)} work again: ${undrain(names)}`],
  [NodeState.NODE_STATE_QUARANTINED, (names) => `Mend ${listed(names)}, then: ${undrain(names)}`],
  [
    NodeState.NODE_STATE_LOST,
    (names) => `Look on the host of ${listed(names)} whether the agent runs and reaches the coordinator.`,
  ],
  [NodeState.NODE_STATE_LEFT, (names) => `Start the agent of ${listed(names)} again: it was stopped.`],
];

function undrain(names: readonly string[]): string {
  return names
    .slice(0, MOST_NAMED)
    .map((name) => `clipfarm node undrain ${shellWord(name)}`)
    .join('; ');
}

/**
 * What an operator can do so that slots take work, one sentence for each kind of node that takes none.
 *
 * @param coordinator where a new agent would dial, `host:port`
 */
export function waysToWork(nodes: readonly Node[], coordinator: string): string[] {
  const found = ways.flatMap(([state, way]) => {
    const names = nodes.filter((node) => node.state === state).map(({ name }) => name);
    return names.length === 0 ? [] : [way(names)];
  });
  const isIll = ({ state, slots }: Node) =>
    state === NodeState.NODE_STATE_ONLINE && slots.some((slot) => slot.state === SlotState.SLOT_STATE_RECOVERING);
  const ill = nodes.filter(isIll).map(({ name }) => name);
  if (ill.length > 0) found.unshift(`Mend the slots of ${listed(ill)} that recover; what the agent logs says more.`);
  if (found.length > 0) return found;
  return [`Start an agent: clipfarm agent --coordinator ${coordinator}; clipfarm agent --help has its options.`];
}
