import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import {
  type AgentServiceClient,
  type ChunkAck,
  ChunkVerdict,
  type Grant,
  type Heartbeat,
  type Hello,
  type Welcome,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { type Gpu, SlotState } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { Logger } from '@clipfarm/shared/log';
import { fetchInput, uploadArtifact } from './artifact-client.ts';
import { InputCache } from './input-cache.ts';
import type { LeaseOutcome } from './lease-machine.ts';
import { LeaseReports, leaseEnded } from './lease-report.ts';
import { leaseTaskFromGrant } from './lease-task.ts';
import { Link } from './link.ts';
import type { FromCoordinator } from './link-session.ts';
import { type AgentMetrics, createAgentMetrics } from './metrics.ts';
import { fieldsOf, Outbox, type OutboxVerdict } from './outbox.ts';
import type { RunnerProfile } from './profile.ts';
import { Slot } from './slot.ts';
import { describe, Spool, type SpoolEntry } from './spool.ts';
