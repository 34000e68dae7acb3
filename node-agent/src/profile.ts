import type { SlotInfo } from '@clipfarm/shared/gen/clipfarm/v1/node';
import type { RunnerCapabilities } from './runner/protocol.ts';

/** How a slot runs the model: which process, with which patience, and what the slot tells about itself. */
export interface RunnerProfile {
  /** Program, arguments and whole environment; the socket's path is appended to the arguments. */
  readonly runner: {
    readonly command: string;
    readonly args: readonly string[];
    readonly env: Readonly<Record<string, string>>;
  };
  /** What its runner can do, as far as is known before it has started. */
  readonly capabilities: RunnerCapabilities;
  /** Milliseconds from the start of the process to its first message. */
  readonly helloMillis: number;
  /** Milliseconds without a sign of life while the model is loaded. */
  readonly loadSilenceMillis: number;
  /** Milliseconds without a lease after which the model gives its memory back; null: it stays loaded. */
  readonly unloadIdleMillis: number | null;
  /** What the coordinator is told about a slot, less its name. */
  readonly slot: Omit<SlotInfo, 'slotId' | 'runnerVersions' | 'fixedEnd' | 'continues'>;
}
