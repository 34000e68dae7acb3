import { clipSet, withoutSet } from './clip-ranges.ts';
import type { JobState, LeaseState } from './job-model.ts';
import type { ScheduleAction, ScheduleInput } from './schedule-model.ts';

/**
 * Revokes leases whose next clips were committed by others meanwhile: late chunks of an earlier lease. One superfluous
 * clip costs less than starting over; more do not. A lease whose end is fixed is waited for: what it has rendered comes at
 * its end and would be lost, however far it is. Leases that have not said where they are stay: a coordinator that
 * has just started would take their own clips for others'.
 */
export function revokeOvertaken(input: ScheduleInput, job: JobState): ScheduleAction[] {
  return [...job.leases.values()].flatMap((lease): ScheduleAction[] => {
    const at = input.progress.get(lease.leaseId);
    if (!at || lease.fixedEnd) return [];
    const current = Math.max(lease.start, at.clip);
    const next = withoutSet(clipSet(current, lease.end), job.committedSet)[0]?.start ?? lease.end;
    if (next - current < 2 || isOwn(job, lease, next - 1)) return [];
    const reason = `clips ${current} to ${next - 1} were committed by others meanwhile`;
    return [{ type: 'revoke', jobId: job.definition.jobId, leaseId: lease.leaseId, reason }];
  });
}

/** Progress may be reported after the chunk that it led to. */
function isOwn(job: JobState, lease: LeaseState, clip: number): boolean {
  return job.committed.get(clip)?.leaseId === lease.leaseId;
}
