/** Lets one after the other through, in the order of arrival. */
export class Turns {
  /** Resolves when the last of those who came so far has ended its turn or gone away. */
  #last: Promise<void> = Promise.resolve();

  /**
   * Waits for a turn.
   *
   * @returns the function that ends it.
   * @throws the signal's reason when it is aborted first.
   */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const mine = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = before.then(() => mine.promise);
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([before, aborted.promise]);
      return () => mine.resolve();
    } catch (error) {
      mine.resolve();
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }
}
