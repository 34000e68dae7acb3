import type { JobCommand } from './decide.ts';
import type { ScheduleAction } from './schedule-model.ts';

/** The command to its job that carries a scheduling action out. */
export function commandOf(action: ScheduleAction, newLeaseId: () => string): JobCommand {
  const { reason } = action;
  switch (action.type) {
    case 'grant': {
      const { nodeId, slotId, profile, start, end, preRoll, speculative } = action;
      const lease = { leaseId: newLeaseId(), nodeId, slotId, profile, start, end, preRoll, speculative };
      const { continues, fixedEnd } = action;
      const kind = { ...(continues === undefined ? {} : { continues }), ...(fixedEnd ? { fixedEnd } : {}) };
      return { type: 'grant', lease: { ...lease, ...kind }, reason };
    }
    case 'shrink':
      return { type: 'shrink', leaseId: action.leaseId, end: action.end, reason };
    case 'revoke':
      return { type: 'endLease', leaseId: action.leaseId, cause: 'revoked', reason };
  }
}
