import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { afterEnd, type Decision, endText, type ProcessEnd } from './restart-policy.ts';
import { signalGroup } from './spawn-service.ts';

/** What a {@link Supervised} process is, and whom to tell. */
export interface SupervisedOptions {
  /** Name for messages. */
  readonly name: string;
  /** Starts the process; called again for every restart. */
  readonly start: () => ChildProcess;
  readonly clock: Clock;
  /** Whether an end is worth another start at all; one that never worked would only fail again. */
  readonly worthRestart: () => boolean;
  /** Told about every end that was not asked for. */
  readonly onEnd: (text: string) => void;
  /** Told when it won't be started again, with its last exit status; null when a signal ended it. */
  readonly onGiveUp: (text: string, code: number | null) => void;
}

/** Running, waiting for its next start, or over for good. */
type State =
  | { readonly kind: 'running'; readonly child: ChildProcess; readonly ended: Promise<unknown> }
  | { readonly kind: 'waiting'; readonly timer: Timer }
  | { readonly kind: 'over' };

const neverWorked: Decision = { kind: 'give-up', reason: 'it did not start' };

/** A process that is started again when it ends, until it is stopped. */
export class Supervised {
  readonly #options: SupervisedOptions;
  #state: State = { kind: 'over' };
  #failures = 0;
  #told = '';

  constructor(options: SupervisedOptions) {
    this.#options = options;
    this.#start();
  }

  /**
   * Stops the process: SIGTERM, and SIGKILL to its whole group when it has not ended after the grace period. Resolves
   * when it is gone.
   *
   * @param graceMs milliseconds.
   */
  async stop(graceMs: number): Promise<void> {
    const state = this.#state;
    this.#state = { kind: 'over' };
    if (state.kind === 'waiting') state.timer.cancel();
    if (state.kind !== 'running') return;
    const kill = () => void signalGroup(state.child, 'SIGKILL');
    const timer = this.#options.clock.setTimeout(kill, graceMs);
    state.child.kill('SIGTERM');
    await state.ended;
    timer.cancel();
    // Helpers that it left behind in its group have nobody to report to.
    kill();
  }

  #start(): void {
    const { clock, start } = this.#options;
    const startedAt = clock.monotonic();
    const child = start();
    // A process that can't be started at all has no exit status; it counts as any other failure.
    child.on('error', () => this.#ended(child, { code: 1, signal: null, ranMillis: 0 }));
    child.on('exit', (code, signal) => this.#ended(child, { code, signal, ranMillis: clock.monotonic() - startedAt }));
    const ended = Promise.race([once(child, 'exit'), once(child, 'error')]).catch(() => undefined);
    this.#state = { kind: 'running', child, ended };
  }

  #ended(child: ChildProcess, end: ProcessEnd): void {
    if (this.#state.kind !== 'running' || this.#state.child !== child) return;
    const { name, clock, onEnd, onGiveUp } = this.#options;
    signalGroup(child, 'SIGKILL');
    const decision = this.#options.worthRestart() ? afterEnd(end, this.#failures) : neverWorked;
    if (decision.kind === 'give-up') {
      this.#state = { kind: 'over' };
      onGiveUp(`${name} ${endText(end)}; ${decision.reason}`, end.code);
      return;
    }
    this.#failures = decision.failures;
    const text = `${name} ${endText(end)}; starting it again in ${(decision.delayMillis / 1000).toFixed(1)} s`;
    // What ends in the same way again and again is told once.
    if (text !== this.#told) onEnd(text);
    this.#told = text;
    this.#state = { kind: 'waiting', timer: clock.setTimeout(() => this.#start(), decision.delayMillis) };
  }
}
