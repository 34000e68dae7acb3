import type { Job, Lease } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { type Node, type Slot, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { isFinal } from '../farm/job-state.ts';
import type { StripClip } from './strip.ts';
import { count } from './units.ts';

/** What one slot does for a job. */
export interface SlotView {
  /** Stands for the slot in the legend below the strip. */
  readonly letter: string;
  /** Index that decides its colour. */
  readonly owner: number;
  /** Name of the node, with the slot where the node has several. */
  readonly label: string;
  /** Undefined while it has no lease of this job. */
  readonly lease: LeaseView | undefined;
  /** What it does, in words. */
  readonly doing: string;
}

/** A lease as the progress shows it. */
export interface LeaseView {
  /** First clip. */
  readonly start: number;
  /** One past the last clip. */
  readonly end: number;
  /** Share of the span's clips that are committed or rendered, 0 to 1. */
  readonly share: number;
  /** Seconds until it is done; negative when unknown. */
  readonly etaSeconds: number;
}

/** A job in the terms of the progress display. */
export interface ProgressView {
  readonly job: Job;
  readonly clips: readonly StripClip[];
  readonly slots: readonly SlotView[];
}

interface KnownSlot {
  readonly key: string;
  readonly label: string;
  readonly slot: Slot | undefined;
}

/**
 * Puts together what a job says about its leases and what nodes say about their slots.
 *
 * @param nodes as far as they are known; a slot of a node that is not among them is shown by its identity.
 */
export function progressView(job: Job, nodes: readonly Node[]): ProgressView {
  const known = knownSlots(job, nodes);
  const owners = new Map(known.map((slot, index) => [slot.key, index]));
  const leases = new Map(job.leases.map((lease) => [keyOf(lease), lease]));
  const slots = known.map((slot, owner) => slotView(slot, owner, leases.get(slot.key), job));
  return { job, clips: stripClips(job, owners, known), slots };
}

/** Slots that work or could work for the job, in a stable order: colours must not jump. */
function knownSlots(job: Job, nodes: readonly Node[]): readonly KnownSlot[] {
  const fitting = new Set((job.plan?.fits ?? []).filter((fit) => fit.fits).map(keyOf));
  const holders = new Map([...job.leases, ...job.spans].map((holder) => [keyOf(holder), holder]));
  const used = new Set(holders.keys());
  const fromNodes = [...nodes]
    .sort((a, b) => compare(a.name, b.name) || compare(a.nodeId, b.nodeId))
    .flatMap((node) => {
      const slots = new Map<string, Slot | undefined>(node.slots.map((slot) => [slot.info?.slotId ?? '?', slot]));
      // A new leader knows a node before it comes back and says which slots it has.
      for (const { nodeId, slotId } of holders.values()) {
        if (nodeId === node.nodeId && !slots.has(slotId)) slots.set(slotId, undefined);
      }
      return [...slots].map(([slotId, slot]) => ({
        key: keyOf({ nodeId: node.nodeId, slotId }),
        label: slots.size > 1 ? slotLabel(node.name, slotId) : node.name,
        slot,
      }));
    })
    .filter(({ key, slot }) => used.has(key) || fitting.has(key) || slot?.jobId === job.jobId);
  const named = new Set(fromNodes.map(({ key }) => key));
  const others = [...used].filter((key) => !named.has(key)).sort(compare);
  return [...fromNodes, ...others.map((key) => ({ key, label: key, slot: undefined }))];
}

/** Node and slot in one word; a slot that carries the node's name already is enough. */
export function slotLabel(nodeName: string, slotId: string): string {
  return slotId.startsWith(`${nodeName}/`) ? slotId : `${nodeName}/${slotId}`;
}

function keyOf(holder: { readonly nodeId: string; readonly slotId: string }): string {
  return `${holder.nodeId}/${holder.slotId}`;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** A to Z, then a to z, then a dot for all others. */
function letterOf(index: number): string {
  return 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'[index] ?? '.';
}

function slotView(known: KnownSlot, owner: number, lease: Lease | undefined, job: Job): SlotView {
  const common = { letter: letterOf(owner), owner, label: known.label };
  if (lease === undefined) {
    if (isFinal(job.state)) return { ...common, lease: undefined, doing: renderedBy(known.key, job) };
    const busy = known.slot !== undefined && known.slot.jobId !== '' && known.slot.jobId !== job.jobId;
    return { ...common, lease: undefined, doing: busy ? 'works for another job' : 'idle' };
  }
  const progress = clipProgress(known.slot, lease);
  const rendered = Math.max(0, lease.currentClip - lease.start) + (lease.currentClip >= lease.start ? progress : 0);
  const share = Math.min(1, rendered / Math.max(1, lease.end - lease.start));
  const view = { start: lease.start, end: lease.end, share, etaSeconds: lease.etaSeconds };
  return { ...common, lease: view, doing: doing(known.slot, lease, progress) };
}

function renderedBy(key: string, job: Job): string {
  const clips = job.spans.filter((span) => keyOf(span) === key).reduce((sum, { start, end }) => sum + end - start, 0);
  return count(clips, 'clip');
}

function doing(slot: Slot | undefined, lease: Lease, progress: number): string {
  if (slot?.state === SlotState.SLOT_STATE_LOADING) return 'loads the model';
  if (slot?.state === SlotState.SLOT_STATE_RECOVERING) return 'restarts';
  const share = `${String(Math.floor(progress * 100)).padStart(2)}%`;
  if (lease.currentClip < lease.start) return `pre-roll ${lease.currentClip} ${share}`;
  const duplicate = lease.speculative ? ' (duplicate)' : '';
  return `clip ${lease.currentClip} ${share}${duplicate}`;
}

/** Share of the current clip, as far as the node's report is about the same clip. */
function clipProgress(slot: Slot | undefined, lease: Lease): number {
  if (slot === undefined || slot.leaseId !== lease.leaseId || slot.currentClip !== lease.currentClip) return 0;
  return Math.min(1, Math.max(0, slot.clipProgress));
}

function stripClips(job: Job, owners: ReadonlyMap<string, number>, known: readonly KnownSlot[]): readonly StripClip[] {
  const total = job.plan?.clips ?? 0;
  const clips: StripClip[] = Array.from({ length: total }, () => ({ owner: undefined, done: 0 }));
  for (const lease of job.leases) {
    const owner = owners.get(keyOf(lease));
    const progress = clipProgress(owner === undefined ? undefined : known[owner]?.slot, lease);
    for (let clip = lease.start; clip < Math.min(lease.end, total); clip += 1) {
      // A clip that is rendered but not committed yet stays just below full.
      const done = clip < lease.currentClip ? 0.99 : clip === lease.currentClip ? Math.min(0.99, progress) : 0;
      clips[clip] = { owner, done };
    }
  }
  for (const span of job.spans) {
    const owner = owners.get(keyOf(span));
    for (let clip = span.start; clip < Math.min(span.end, total); clip += 1) clips[clip] = { owner, done: 1 };
  }
  return clips;
}
