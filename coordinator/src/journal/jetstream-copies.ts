import type { Logger } from '@clipfarm/shared/log';
import type { ClusterInfo } from 'nats';

/** A copy may be late in so many looks in a row before it is said: a server that is restarted, or busy, catches up in less. */
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
  /** In how many looks, the last ones, each copy was late. */
  #looks: ReadonlyMap<string, number> = new Map();
  /** What is late and was said, as long as it is late. */
  #said: ReadonlySet<string> = new Set();

  /** @param onLate called with each log line that says that copies are late */
  constructor(log: Logger, onLate: () => void) {
    this.#log = log;
    this.#onLate = onLate;
  }

  /** Takes in what one look at all streams has found. */
  saw(late: readonly string[]): void {
    this.#looks = new Map(late.map((each) => [each, (this.#looks.get(each) ?? 0) + 1]));
    // Servers list replicas in any order, another one each time.
    const staying = late.filter((each) => this.#said.has(each) || (this.#looks.get(each) ?? 0) >= LOOKS).toSorted();
    if (staying.some((each) => !this.#said.has(each))) {
      const hint = 'see that each NATS server runs and has room; one whose disk was full must be restarted';
      const reason = staying.join('; ');
      this.#onLate();
      this.#log.warn({ reason, hint }, 'streams in NATS lack copies: the next lost server may stop the farm');
    } else if (staying.length === 0 && this.#said.size > 0) {
      this.#log.info('every stream in NATS has all its copies again');
    }
    this.#said = new Set(staying);
  }
}
