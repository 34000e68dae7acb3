import type { Clock } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Logger } from '@clipfarm/shared/log';
import { secondsOf } from '@clipfarm/shared/log-number';
import type { Metrics } from './admin/metrics.ts';
import type { Changes } from './api/changes.ts';
import type { ArtifactStore } from './artifacts/artifact-store.ts';
import { isOver } from './core/decide.ts';
import type { JobState } from './core/job-model.ts';
import type { AnchorKeeper } from './farm/anchor-keeper.ts';
import { announceJobEvent } from './farm/announcer.ts';
import type { AudioLibrary } from './farm/audio-library.ts';
import { Dispatcher, type FarmTimings } from './farm/dispatcher.ts';
import type { Fleet } from './farm/fleet.ts';
import type { Jobs } from './farm/jobs.ts';
import { KeptPrefixes } from './farm/kept-prefix.ts';
import type { Links } from './farm/links.ts';
import type { Nodes } from './farm/nodes.ts';
import type { Office } from './farm/office.ts';
import { Retention, type RetentionParts } from './farm/retention.ts';
import type { Speedometer } from './farm/speedometer.ts';
import { Stitcher, type StitcherParts } from './farm/stitcher.ts';
import type { StorageHealth } from './farm/storage-health.ts';
import type { Leadership } from './journal/election.ts';
import type { PrefixVideo } from './media/prefix-video.ts';
import type { JobNotifier } from './notify/job-notifier.ts';

/** What only a leader does: schedules, speaks to agents, stitches. */
export interface DutyParts extends StitcherParts, RetentionParts {
  readonly jobs: Jobs;
  readonly audio: AudioLibrary;
  readonly store: ArtifactStore;
  readonly nodes: Nodes;
  readonly fleet: Fleet;
  readonly links: Links;
  readonly anchors: AnchorKeeper;
  readonly notifier: JobNotifier;
  readonly office: Office;
  readonly speed: Speedometer;
  readonly changes: Changes;
  readonly timings: FarmTimings;
  readonly storage: StorageHealth;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Starts and stops a leader's work. It is idle while another coordinator leads; the projections stay warm meanwhile.
 */
export class LeaderDuties {
  readonly #parts: DutyParts;
  readonly #kept: KeptPrefixes;
  #active: { readonly dispatcher: Dispatcher; readonly stitcher: Stitcher; readonly retention: Retention } | null =
    null;

  constructor(parts: DutyParts) {
    this.#parts = parts;
    this.#kept = new KeptPrefixes(parts);
    const { jobs, office, links, changes, speed } = parts;
    const announcer = { ...parts, hangFloorSeconds: parts.timings.hangFloorSeconds };
    jobs.onEvent((job, event, at) => {
      changes.notify(job.definition.jobId);
      if (isOver(job)) speed.forget(job.definition.jobId);
      else if (event.type === 'ClipCommitted') speed.note(job.definition.jobId, event.record.frames);
      const term = office.termInOffice;
      if (term === null || !this.#active) return;
      announceJobEvent({ ...announcer, links, term }, job, event);
      parts.notifier.tell(job, event, at);
      this.#active.stitcher.advance(job);
      this.#active.dispatcher.wake();
    });
  }

  /**
   * Takes the farm over for a term: everything that was accepted before goes on.
   *
   * @param vacantSince when the leader before gave its last sign, by the monotonic clock; null where none was known
   */
  async begin(leadership: Pick<Leadership, 'term' | 'holds'>, vacantSince: number | null): Promise<void> {
    const { office, jobs, nodes, fleet, clock, log } = this.#parts;
    const electedAt = clock.monotonic();
    const dispatcher = new Dispatcher(this.#parts);
    const stitcher = new Stitcher(this.#parts);
    const retention = new Retention(this.#parts);
    // Before any event can make it begin a file there.
    await stitcher.clear();
    const { term } = leadership;
    office.enter(term, () => leadership.holds());
    fleet.takeOver();
    // Events from here on are announced; before, nobody could have asked for any.
    this.#active = { dispatcher, stitcher, retention };
    await jobs.takeOver();
    await nodes.takeOver();
    // Agents are welcomed from here on.
    office.taken();
    void this.#ensureAnchors(jobs.live());
    void this.#tidyAudio();
    stitcher.start();
    this.#parts.notifier.begin(term);
    dispatcher.start();
    retention.start();
    this.#parts.metrics.leaderships.inc({ change: 'begun' });
    const now = clock.monotonic();
    const live = jobs.live();
    const fields = {
      term,
      ...(vacantSince === null ? {} : { leaderless_seconds: secondsOf(now - vacantSince) }),
      takeover_seconds: secondsOf(now - electedAt),
      jobs: live.length,
      leases_rearmed: live.reduce((sum, { leases }) => sum + leases.size, 0),
      nodes_awaited: nodes.awaited.length,
    };
    log.info(fields, 'leading');
  }

  /** One after the other, beside everything else: no more than a few jobs have lost what an agent should have handed in. */
  async #ensureAnchors(jobs: readonly JobState[]): Promise<void> {
    for (const job of jobs) await this.#parts.anchors.ensure(job);
  }

  /** What this host has decoded for jobs that are over, or for no job, is of no use any more. */
  async #tidyAudio(): Promise<void> {
    const { audio, jobs, log } = this.#parts;
    const wanted = new Set(jobs.live().map(({ definition }) => definition.audioSha256));
    await audio.keepOnly(wanted).catch((error: unknown) => log.warn({ err: error }, 'decoded audio stays behind'));
  }

  /** Lays everything down: at once towards agents and journal, then what is in hand. */
  async end(reason: string): Promise<void> {
    const { office, links, anchors, log } = this.#parts;
    if (!office.leave()) return;
    anchors.stop();
    links.closeAll(reason);
    const active = this.#active;
    this.#active = null;
    await this.#parts.notifier.end();
    await Promise.all([active?.stitcher.stop(), active?.retention.stop(), active?.dispatcher.stop()]);
    this.#parts.metrics.leaderships.inc({ change: 'ended' });
    log.info({ reason }, 'no longer leading');
  }

  /**
   * The beginning of the video of a job that is not completed, see {@link Stitcher.prefix} and {@link KeptPrefixes.of}.
   *
   * @throws FarmError also when this coordinator does not lead
   */
  async prefix(job: JobState, signal: AbortSignal): Promise<PrefixVideo> {
    this.#parts.office.requireLead();
    if (!this.#active) throw new FarmError('unavailable', 'the coordinator is taking over');
    return isOver(job) ? this.#kept.of(job, signal) : this.#active.stitcher.prefix(job.definition.jobId);
  }

  /** Asks for a scheduling round: something changed that is no event of a job. */
  wake(): void {
    this.#active?.dispatcher.wake();
  }
}
