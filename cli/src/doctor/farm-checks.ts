import { FarmError } from '@clipfarm/shared/errors';
import { type Node, NodeState, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import type { Context } from '../context.ts';
import { allNodes } from '../farm/all-nodes.ts';
import { isSilence, NOBODY } from '../farm/connection.ts';
import { onlineNodes } from '../farm/wait-for-nodes.ts';
import { listed, waysToWork, whyAway } from '../farm/ways-to-work.ts';
import { slotLabel } from '../render/progress-view.ts';
import { count } from '../render/units.ts';
import { broken, type Check, failed, passed } from './check.ts';

/** Milliseconds that each coordinator gets to answer; they are asked at the same time. */
const ANSWER_MILLIS = 5000;

/** What a coordinator answered that was asked for its nodes, which only the leader knows. */
interface Answer {
  readonly address: string;
  /** Its nodes, if it leads. */
  readonly nodes: readonly Node[] | null;
  /** Why it did not give them; null if it leads. */
  readonly error: FarmError | null;
  /** False where it could not even be asked: a file or an address that can't be used. */
  readonly wasAsked: boolean;
}

/** Checks each coordinator that the user named, which of them leads, and whether the farm has slots that work. */
export async function checkFarm(context: Context): Promise<Check[]> {
  const addresses = context.coordinator.split(',').map((address) => address.trim());
  const answers = await Promise.all(addresses.map((address) => ask(context, address)));
  if (context.shell.interrupted.aborted) throw new FarmError('unavailable', 'interrupted');
  const nodes = answers.find((answer) => answer.nodes !== null)?.nodes ?? (await elsewhere(context, answers));
  const coordinators = answers.map((answer) => checkCoordinator(answer, nodes !== null));
  if (nodes !== null) return [...coordinators, checkSlots(nodes, context.coordinator)];
  return [
    ...coordinators,
    failed('slots', 'not known without a coordinator that leads', 'See the checks before this one.'),
  ];
}

async function ask(context: Context, address: string): Promise<Answer> {
  const answer = context.withFarm(async (farm) => {
    const limits = { timeoutMs: ANSWER_MILLIS, signal: farm.signal };
    try {
      const nodes = await allNodes((request) => callUnary(farm.client, farm.client.listNodes, request, limits));
      return { address, nodes, error: null, wasAsked: true };
    } catch (error) {
      return { address, nodes: null, error: withSilence(farm.explain(error), address), wasAsked: true };
    }
  }, address);
  return answer.catch((error: unknown) => ({ address, nodes: null, error: FarmError.from(error), wasAsked: false }));
}

/** The same error; where time ran out, in the words of the other ways to get no answer. */
function withSilence(error: FarmError, address: string): FarmError {
  if (error.code !== 'timeout') return error;
  return new FarmError(
    'unavailable',
    `${NOBODY}${address}: it takes connections, and said nothing for ${ANSWER_MILLIS / 1000} s`,
    {
      hint: 'It may be frozen or overloaded: look at its host.',
      cause: error,
    },
  );
}

/** The nodes as a leader tells them that the user did not name, and that one of those who answered did. */
async function elsewhere(context: Context, answers: readonly Answer[]): Promise<readonly Node[] | null> {
  const leader = answers.find(({ error }) => error?.leader !== undefined)?.error?.leader;
  return leader === undefined ? null : (await ask(context, leader)).nodes;
}

function checkCoordinator({ address, error, wasAsked }: Answer, isLed: boolean): Check {
  const name = 'coordinator';
  if (!wasAsked) return broken(name, error, 'See clipfarm doctor --help.');
  if (error === null) return passed(name, `${address} answers and leads`);
  if (isSilence(error)) {
    // Where nobody leads either, the error's own advice is the better one: it may be the wrong address.
    if (!isLed) return broken(name, error, 'Start one with: clipfarm up');
    const fix = 'Look after it on its host, or leave its address out.';
    return { name, ok: true, unsafe: true, detail: `${error.message}; the farm goes on without it`, fix };
  }
  if (error.leader !== undefined) {
    if (isLed) return passed(name, `${address} answers and follows; the one at ${error.leader} leads`);
    const detail = `${address} answers and follows, but the one that led, at ${error.leader}, does not answer`;
    return failed(name, detail, 'Another one takes over in a few seconds; where none is left, start it again.');
  }
  return broken(name, new FarmError(error.code, `${address} answers: ${error.message}`, hintOf(error)), 'See its log.');
}

function hintOf({ hint }: FarmError) {
  return hint === undefined ? {} : { hint };
}

function checkSlots(nodes: readonly Node[], coordinator: string): Check {
  const online = onlineNodes(nodes);
  const slots = online.reduce((sum, node) => sum + node.slots.length, 0);
  const here = `${count(slots, 'slot')} on ${count(online.length, 'node')} online`;
  const troubles = nodes.flatMap(troublesOf);
  const fix = waysToWork(nodes, coordinator).join(' ');
  if (troubles.length > 0) {
    const mend = 'Mend it on that host; what its agent logs says more. A slot is tried again by itself.';
    return failed('slots', [here, ...troubles].join('; '), mend);
  }
  const away = nodes.flatMap((node) => whyAway(node) ?? []);
  if (slots === 0) return failed('slots', [here, ...(away.length === 0 ? [] : [listed(away)])].join('; '), fix);
  const drained = nodes.filter(({ state }) => state === NodeState.NODE_STATE_DRAINING).flatMap((n) => whyAway(n) ?? []);
  // Somebody wanted it so; who forgot that sees it here.
  return passed('slots', [here, ...(drained.length === 0 ? [] : [listed(drained)])].join('; '));
}

/** What keeps a node, or slots of it, from working though it is there. */
function troublesOf(node: Node): string[] {
  if (node.state === NodeState.NODE_STATE_QUARANTINED) return [`${node.name} is quarantined: ${node.stateReason}`];
  if (node.state !== NodeState.NODE_STATE_ONLINE) return [];
  return node.slots
    .filter(({ state }) => state === SlotState.SLOT_STATE_RECOVERING)
    .map(({ info, stateReason }) => `${slotLabel(node.name, info?.slotId ?? '?')} is recovering: ${stateReason}`);
}
