import type { Writable } from 'node:stream';
import { FarmError } from '../errors.ts';

/** The sending side of a streaming call, whichever end of it. */
export interface MessageSink<M> {
  /**
   * Sends a message and resolves when there is room for the next one. One at a time.
   *
   * @throws FarmError `unavailable` when the call is over.
   */
  send(message: M): Promise<void>;
  /**
   * Queues a message without waiting, for a sender that must not be held up by a slow peer. False when the call is
   * over, or when so many messages wait already that the peer evidently does not read: then the call is ended.
   */
  post(message: M): boolean;
}

/** Messages that may wait in {@link MessageSink.post}. */
export const MAX_POSTED = 1024;

/**
 * Wraps a call's writable side. Make it as soon as the call exists, so that no end of the call goes unnoticed.
 *
 * @param abort ends the call when the peer reads too slowly.
 */
export function createSink<M>(call: Writable, abort: (reason: FarmError) => void): MessageSink<M> {
  let over = false;
  let wake: (() => void) | undefined;
  const end = (): void => {
    over = true;
    wake?.();
  };
  // A call can end in any of these ways, and after some of them `drain` never comes. The listener for `error` also
  // keeps a failed call, which its reader reports, from ending the process.
  for (const event of ['status', 'cancelled', 'close', 'error', 'finish']) call.on(event, end);
  call.on('drain', () => wake?.());

  return {
    async send(message) {
      if (over) throw ended();
      if (call.write(message)) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (over) resolve();
      });
      wake = undefined;
      if (over) throw ended();
    },
    post(message) {
      if (over) return false;
      if (call.writableLength >= MAX_POSTED) {
        end();
        abort(new FarmError('unavailable', `${MAX_POSTED} messages wait unread; the call was ended`));
        return false;
      }
      call.write(message);
      return true;
    },
  };
}

function ended(): FarmError {
  return new FarmError('unavailable', 'the call was ended by the other side');
}
