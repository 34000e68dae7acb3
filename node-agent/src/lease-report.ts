import {
  FailureClass,
  LeaseEnded,
  type LeaseEnded as LeaseEndedMessage,
  LeaseEndReason,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { AttemptFailureClass, LeaseOutcome } from './lease-machine.ts';

/** Characters of a message that are sent. */
const MAX_MESSAGE = 2000;

/** Leases that are remembered: more than a host has slots, for longer than a message can be late. */
const REMEMBERED = 64;

/** Milliseconds after which a message that went into a live connection has arrived: keepalive would have broken it. */
const ARRIVED_MILLIS = 10_000;

const failureClasses: { readonly [C in AttemptFailureClass]: FailureClass } = {
  out_of_memory: FailureClass.FAILURE_CLASS_OUT_OF_MEMORY,
  hang: FailureClass.FAILURE_CLASS_HANG,
  device: FailureClass.FAILURE_CLASS_DEVICE,
  crash: FailureClass.FAILURE_CLASS_CRASH,
  bad_input: FailureClass.FAILURE_CLASS_BAD_INPUT,
  environment: FailureClass.FAILURE_CLASS_ENVIRONMENT,
  bad_chunk: FailureClass.FAILURE_CLASS_BAD_CHUNK,
};

const reasons: { readonly [R in LeaseOutcome['reason']]: LeaseEndReason } = {
  completed: LeaseEndReason.LEASE_END_REASON_COMPLETED,
  stopped: LeaseEndReason.LEASE_END_REASON_STOPPED,
  failed: LeaseEndReason.LEASE_END_REASON_FAILED,
  refused: LeaseEndReason.LEASE_END_REASON_REFUSED,
};

/** The message that tells how a lease ended. */
export function leaseEnded(
  lease: { readonly leaseId: string; readonly jobId: string },
  outcome: LeaseOutcome,
  clip: number,
): LeaseEndedMessage {
  return LeaseEnded.fromPartial({
    leaseId: lease.leaseId,
    jobId: lease.jobId,
    reason: reasons[outcome.reason],
    failureClass:
      outcome.reason === 'failed' ? failureClasses[outcome.failureClass] : FailureClass.FAILURE_CLASS_UNSPECIFIED,
    message: 'message' in outcome ? outcome.message.slice(0, MAX_MESSAGE).toWellFormed() : '',
    clip,
  });
}

interface Report {
  readonly message: LeaseEndedMessage;
  /** Monotonic milliseconds when it was sent; null while it waits for a link. */
  sentAt: number | null;
  arrived: boolean;
}

/**
 * Reports of ended leases until they surely arrived. There is no acknowledgement of them, so one that was sent shortly
 * before a connection broke is sent again on the next one.
 */
export class LeaseReports {
  readonly #reports = new Map<string, Report>();

  /** Remembers a report; `sent` says whether there was a link to send it on. */
  add(message: LeaseEndedMessage, sent: boolean, now: number): void {
    this.#reports.delete(message.leaseId);
    this.#reports.set(message.leaseId, { message, sentAt: sent ? now : null, arrived: false });
    const [oldest] = this.#reports.keys();
    if (this.#reports.size > REMEMBERED && oldest !== undefined) this.#reports.delete(oldest);
  }

  /** The report of a lease that ended here, however long ago, as far as it is remembered. */
  find(leaseId: string): LeaseEndedMessage | undefined {
    return this.#reports.get(leaseId)?.message;
  }

  /** The link broke: what was sent just before may be lost. */
  disconnected(now: number): void {
    for (const report of this.#reports.values()) {
      report.arrived ||= report.sentAt !== null && now - report.sentAt >= ARRIVED_MILLIS;
    }
  }

  /** The link is back: what must be sent (again). */
  connected(now: number): readonly LeaseEndedMessage[] {
    const due = [...this.#reports.values()].filter((report) => !report.arrived);
    for (const report of due) report.sentAt = now;
    return due.map((report) => report.message);
  }
}
