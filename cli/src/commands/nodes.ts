import {
  DrainNodeResponse,
  ListNodesResponse,
  UndrainNodeResponse,
} from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { type Node, NodeState, type Slot, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import { allNodes } from '../farm/all-nodes.ts';
import { nodeStateWords, slotStateWords } from '../farm/job-state.ts';
import { flagValue } from '../job-options.ts';
import { slotLabel } from '../render/progress-view.ts';
import type { Style } from '../render/style.ts';
import { table } from '../render/table.ts';
import { printable, widthOf } from '../render/text.ts';
import { age, dateOf } from '../render/units.ts';
import { persist } from './persist.ts';
import { act, examples, type Handler, type Register } from './register.ts';

/** Columns of the terminal for a reason in the table. */
const REASON_WIDTH = 60;

/** `clipfarm nodes` and `clipfarm node` */
export const registerNodes: Register = (program, run) => {
  const list = program
    .command('nodes')
    .description('Lists nodes with their slots and what each does.')
    .addHelpText('after', examples(['clipfarm nodes', 'clipfarm nodes -o json | jq ".nodes[].name"']));
  act(list, run, listNodes);

  const node = program.command('node').description('Takes a node out of work, or back.');
  node.addHelpText('after', examples(['clipfarm node drain host-3', 'clipfarm node undrain host-3']));
  const drain = node
    .command('drain')
    .description('Lets a node finish the clip in hand and take nothing new. The rest of its work goes to others.')
    .argument('<node>', 'name or identity')
    .option('--reason <text>', 'recorded with the node', '')
    .addHelpText('after', examples(['clipfarm node drain host-3 --reason "new driver"']));
  act(drain, run, drainNode);
  const undrain = node
    .command('undrain')
    .description('Lets a drained or quarantined node work again.')
    .argument('<node>', 'name or identity')
    .addHelpText('after', examples(['clipfarm node undrain host-3']));
  act(undrain, run, undrainNode);
};

const listNodes: Handler = async (context) => {
  const nodes = await context.withFarm((farm) => allNodes((request) => farm.call(farm.client.listNodes, request)));
  if (context.json) context.printJson(ListNodesResponse.toJSON({ nodes, nextPageToken: '' }));
  else if (nodes.length === 0)
    context.note(`no nodes; start an agent with: clipfarm agent --coordinator ${context.coordinator}`);
  else context.print(nodeTables(context, nodes));
  return exitCode.ok;
};

const drainNode: Handler = async (context, [nodeId = ''], options) => {
  const request = { nodeId, reason: flagValue(options, 'reason') ?? '', knowsLeft: true };
  const response = await context.withFarm((farm) =>
    persist(context, farm, () => farm.call(farm.client.drainNode, request)),
  );
  if (context.json) context.printJson(DrainNodeResponse.toJSON(response));
  else tellState(context, response.node, 'drained');
  return exitCode.ok;
};

const undrainNode: Handler = async (context, [nodeId = '']) => {
  const response = await context.withFarm((farm) =>
    persist(context, farm, () => farm.call(farm.client.undrainNode, { nodeId, knowsLeft: true })),
  );
  if (context.json) context.printJson(UndrainNodeResponse.toJSON(response));
  else tellState(context, response.node, 'undrained');
  return exitCode.ok;
};

function tellState(context: Context, node: Node | undefined, done: 'drained' | 'undrained'): void {
  if (node === undefined) return;
  const { NODE_STATE_LOST, NODE_STATE_LEFT } = NodeState;
  const isAway = node.state === NODE_STATE_LOST || node.state === NODE_STATE_LEFT;
  // What it is says nothing then of what was done.
  const state = isAway ? `${done}; ${awayWords(node)}` : nodeStateWords[node.state];
  context.note(`node ${node.name} is ${state}`);
}

function awayWords(node: Node): string {
  return hasLeft(node) ? 'its agent has left' : 'it is lost';
}

function nodeTables(context: Context, nodes: readonly Node[]): string[] {
  return [...nodeTable(context, nodes), ...longReasons(nodes), ...gpuTable(context, nodes)];
}

/** Reasons of slots that the table cuts, whole: what a runner said last is at their end. */
function longReasons(nodes: readonly Node[]): string[] {
  return nodes.flatMap(({ name, slots }) =>
    slots
      .filter(({ stateReason }) => widthOf(stateReason) > REASON_WIDTH)
      .map(({ info, stateReason }) => `${slotLabel(name, info?.slotId ?? '?')}: ${printable(stateReason)}`),
  );
}

function stateStyle(state: NodeState, style: Style): (text: string) => string {
  if (state === NodeState.NODE_STATE_ONLINE) return style.good;
  return state === NodeState.NODE_STATE_LEFT ? style.dim : style.warn;
}

function nodeTable(context: Context, nodes: readonly Node[]): string[] {
  const { style, shell } = context;
  const now = shell.clock.now();
  // One line per slot; a node without slots has one line too.
  const rows = nodes.flatMap((node): { node: Node; slot: Slot | undefined }[] =>
    node.slots.length === 0 ? [{ node, slot: undefined }] : node.slots.map((slot) => ({ node, slot })),
  );
  return table(
    rows,
    [
      { title: 'NODE', cell: ({ node }) => node.name, max: 24 },
      {
        title: 'STATE',
        cell: ({ node }) => nodeStateWords[node.state],
        paint: (text, { node }) => stateStyle(node.state, style)(text),
      },
      { title: 'POOL', cell: ({ node }) => node.pool, max: 16 },
      { title: 'SLOT', cell: ({ slot }) => slot?.info?.slotId ?? '-', max: 20 },
      { title: 'PROFILE', cell: ({ slot }) => slot?.info?.profile ?? '-', max: 20 },
      { title: 'S/CLIP', cell: ({ slot }) => secondsPerClip(slot), align: 'right' },
      { title: 'DOES', cell: ({ node, slot }) => (hasLeft(node) ? '-' : doing(slot)), max: 40 },
      { title: 'CLIPS', cell: ({ node }) => String(node.clipsCommitted), align: 'right' },
      { title: 'SEEN', cell: ({ node }) => seen(node, now), align: 'right' },
      { title: 'REASON', cell: ({ node, slot }) => node.stateReason || (slot?.stateReason ?? ''), max: REASON_WIDTH },
    ],
    style,
  );
}

/** One line per GPU; nothing where there is none. */
function gpuTable({ style }: Context, nodes: readonly Node[]): string[] {
  const rows = nodes.flatMap((node) => node.gpus.map((gpu) => ({ node, gpu })));
  if (rows.length === 0) return [];
  const lines = table(
    rows,
    [
      { title: 'NODE', cell: ({ node }) => node.name, max: 24 },
      { title: 'GPU', cell: ({ gpu }) => String(gpu.index), align: 'right' },
      { title: 'NAME', cell: ({ gpu }) => gpu.name, max: 32 },
      { title: 'USED', cell: ({ gpu }) => gibOf(gpu.memoryUsedBytes), align: 'right' },
      { title: 'MEMORY', cell: ({ gpu }) => gibOf(gpu.memoryBytes), align: 'right' },
      { title: 'BUSY', cell: ({ gpu }) => `${gpu.utilizationPercent} %`, align: 'right' },
      {
        title: 'TEMP',
        cell: ({ gpu }) => (gpu.temperatureCelsius > 0 ? `${gpu.temperatureCelsius} C` : '-'),
        align: 'right',
      },
      {
        title: 'STATE',
        cell: ({ gpu }) =>
          gpu.trouble || (gpu.throttleReasons.length > 0 ? `slowed by ${gpu.throttleReasons.join(', ')}` : 'ok'),
        max: 90,
        paint: (text, { gpu }) =>
          gpu.trouble !== '' || gpu.throttleReasons.length > 0 ? style.warn(text) : style.good(text),
      },
    ],
    style,
  );
  return ['', ...lines];
}

function gibOf(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function secondsPerClip(slot: Slot | undefined): string {
  return slot === undefined || slot.secondsPerClip <= 0 ? '-' : slot.secondsPerClip.toFixed(2);
}

/** What its slots did last, which was to leave, is over. */
function hasLeft({ state }: Node): boolean {
  return state === NodeState.NODE_STATE_LEFT;
}

function doing(slot: Slot | undefined): string {
  if (slot === undefined) return '-';
  // The agent's word comes first: a lease may outlast what the slot does for it.
  if (slot.jobId === '' || slot.state === SlotState.SLOT_STATE_IDLE) return slotStateWords[slot.state];
  return `${slotStateWords[slot.state]} clip ${slot.currentClip} of ${slot.jobId}`;
}

function seen(node: Node, nowMillis: number): string {
  const at = dateOf(node.lastSeenAt);
  return at === undefined ? '-' : age((nowMillis - at.getTime()) / 1000);
}
