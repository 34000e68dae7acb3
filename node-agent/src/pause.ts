import type { Clock } from '@clipfarm/shared/clock';

/** Waits some milliseconds, but not longer than until the signal aborts; then throws its reason. */
export async function pause(
  millis: number,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _timer = clock.setTimeout(resolve, millis);
  const stop = (): void => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
