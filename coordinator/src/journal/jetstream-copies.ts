import type { Logger } from '@clipfarm/shared/log';
import type { ClusterInfo } from 'nats';

/** A copy may be late for so many looks before it is said: a server that is restarted catches up in less. */
const LOOKS = 3;

/**
 * Copies of a stream that are missing or behind, in words; none where the stream has no leader, which alone knows.
 *
 * @param replicas copies that the stream is to have
 */
export function lateCopies(stream: string, cluster: ClusterInfo | undefined, replicas: number): readonly string[] {
  // A single server tells of no cluster.
  if (!cluster?.leader) return [];
  const others = cluster.replicas ?? [];
  const late = others.flatMap(({ name, offline, current }) => {
    if (offline) return [`${stream} has no copy on ${name}, which is offline`];
    return current ? [] : [`${stream} is not up to date on ${name}`];
  });
  const absent = replicas - 1 - others.length;
  return absent > 0 ? [...late, `${stream} has ${others.length + 1} of ${replicas} copies`] : late;
}

/**
 * Says in the log when copies stay late, and when all are there again. The journal works without some of them, so that is
 * no trouble of its own yet: the next server that is lost may be.
 */
export class CopyWatch {
  readonly #log: Logger;
  readonly #onLate: () => void;
  #looks = 0;
  #said = '';

  /** @param onLate called with each log line that says that copies are late */
  constructor(log: Logger, onLate: () => void) {
    this.#log = log;
    this.#onLate = onLate;
  }

  /** Takes in what one look at all streams has found. */
  saw(late: readonly string[]): void {
    this.#looks = late.length === 0 ? 0 : this.#looks + 1;
    // Servers list replicas in any order, another one each time.
    const words = late.toSorted().join('; ');
    if (words === this.#said || (late.length > 0 && this.#looks < LOOKS)) return;
    if (late.length === 0) {
      this.#log.info('every stream in NATS has all its copies again');
    } else {
      const hint = 'see that each NATS server runs and has room; one whose disk was full must be restarted';
      this.#onLate();
      this.#log.warn({ reason: words, hint }, 'streams in NATS lack copies: the next lost server may stop the farm');
    }
    this.#said = words;
  }
}
