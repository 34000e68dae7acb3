import type { LoggedJob } from '../../coordinator/src/core/test-jobs.ts';
import type { RenderObserver } from './agent.ts';
import type { SpooledChunk } from './messages.ts';

/** A node that was killed. */
interface Death {
  readonly nodeId: string;
  readonly at: number;
  readonly workers: number;
}

interface Render {
  readonly nodeId: string;
  readonly chunk: SpooledChunk;
  readonly at: number;
}

/** Counts what the agents render: how often each clip, and why more than once. */
export class Renders implements RenderObserver {
  readonly #now: () => number;
  readonly #renders = new Map<string, Render[]>();
  readonly #deaths: Death[] = [];
  /** Pre-roll clips. */
  preRollClips = 0;
  wentOnLeases = 0;
  /** Clips, pre-roll not counted. */
  clips = 0;
  /** Time spent on clips that were thrown away half done, because the coordinator took the lease. */
  brokenOffSeconds = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  rendered(nodeId: string, _slotId: string, chunk: SpooledChunk): void {
    const key = `${chunk.jobId} ${chunk.clip}`;
    this.#renders.set(key, [...(this.#renders.get(key) ?? []), { nodeId, chunk, at: this.#now() }]);
    this.clips += 1;
  }

  wentOn(): void {
    this.wentOnLeases += 1;
  }

  preRolled(): void {
    this.preRollClips += 1;
  }

  brokenOff(seconds: number): void {
    this.brokenOffSeconds += seconds;
  }

  /** Notes that a node dies now. */
  died(nodeId: string, workers: number): void {
    this.#deaths.push({ nodeId, at: this.#now(), workers });
  }

  /** Clips that were rendered more than once, and the most of them that one killed worker had rendered just before. */
  summary(jobs: ReadonlyMap<string, LoggedJob>): { rerendered: number; mostPerKilledWorker: number } {
    const kept = new Set([...jobs.values()].flatMap(contentOf));
    const perDeath = new Map<Death, number>();
    let rerendered = 0;
    for (const all of this.#renders.values()) {
      rerendered += all.length - 1;
      for (const { nodeId, chunk, at } of all) {
        const death = kept.has(chunk.sha256)
          ? undefined
          : this.#deaths.find((d) => d.nodeId === nodeId && d.at >= at && d.at - at < 5000);
        if (death) perDeath.set(death, (perDeath.get(death) ?? 0) + 1);
      }
    }
    const ratios = [...perDeath].map(([death, clips]) => clips / death.workers);
    return { rerendered, mostPerKilledWorker: Math.max(0, ...ratios) };
  }
}

/** Content of every chunk that was committed. */
function contentOf({ log }: LoggedJob): string[] {
  return log.flatMap(({ event }) => (event.type === 'ClipCommitted' ? [event.record.chunk.sha256] : []));
}
