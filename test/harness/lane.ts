import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** One direction of a link. While it is shut, bytes wait; they arrive, in order, once it is open. */
export class Lane {
  /** Milliseconds by which everything arrives later. */
  delayMillis = 0;
  /** Up to this many more, drawn for each piece. */
  jitterMillis = 0;
  #shut: PromiseWithResolvers<void> | null = null;

  set cut(value: boolean) {
    if (value) this.#shut ??= Promise.withResolvers();
    else {
      this.#shut?.resolve();
      this.#shut = null;
    }
  }

  /** When what comes now may arrive, by the monotonic clock. */
  due(): number {
    return performance.now() + this.delayMillis + this.jitterMillis * Math.random();
  }

  /** Resolves once what is due then is not held up any more. */
  async passed(due: number): Promise<void> {
    const left = due - performance.now();
    // Timers count whole milliseconds, and leave out what is less.
    if (left > 0) await sleep(Math.ceil(left) + 1);
    while (this.#shut) await this.#shut.promise;
  }
}

/** Both directions of a link. */
export interface Lanes {
  /** From whoever dials to the server. */
  readonly forth: Lane;
  /** And from the server back. */
  readonly back: Lane;
}

/** Bytes on the way in one direction, from which on no more is read. */
const MOST_BYTES = 1024 * 1024;

/**
 * Carries one direction, its end and its failure included. What is late does not hold up what comes behind it.
 *
 * @param seen hears of each piece before it goes on
 */
export async function pump(from: Socket, to: Socket, lane: Lane, seen?: (data: Buffer) => void): Promise<void> {
  let bytes = 0;
  let sending = Promise.resolve();
  const send = (act: () => unknown) => {
    const due = lane.due();
    sending = sending.then(async () => {
      await lane.passed(due);
      await act();
    });
    return sending;
  };
  try {
    for await (const data of from as AsyncIterable<Buffer>) {
      seen?.(data);
      bytes += data.length;
      const sent = send(async () => {
        await write(to, data);
        bytes -= data.length;
      });
      if (bytes > MOST_BYTES) await sent;
    }
    await send(() => to.end());
  } catch {
    await send(() => to.destroy());
  }
}

/** Resolves when there is room for more, or nobody takes any. */
async function write(to: Socket, data: Buffer): Promise<void> {
  if (to.destroyed || to.write(data)) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      to.off('drain', done).off('close', done);
      resolve();
    };
    to.on('drain', done).on('close', done);
  });
}
