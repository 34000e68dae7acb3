/**
 * Calls somebody else's code. If it throws, what was appended is stored all the same; the error ends the process like any
 * that nobody catches, because a projection that missed an event is wrong.
 */
export function runApart(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
