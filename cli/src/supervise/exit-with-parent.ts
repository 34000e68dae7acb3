/**
 * Loaded into a service by `node --import` before its own main file. File descriptor 3 is a pipe that the starter holds
 * open; when the starter is gone, however it went, the pipe ends and the service stops as on SIGTERM. So no service
 * outlives its starter, not even one that was killed with SIGKILL.
 */
import { Socket } from 'node:net';

/** Milliseconds that the service has to stop in order. */
const GRACE_MS = 30_000;

const lifeline = new Socket({ fd: 3, readable: true, writable: false });
lifeline.on('error', stop);
lifeline.on('close', stop);
lifeline.resume();
// The pipe alone must not keep a service running that has nothing left to do.
lifeline.unref();

function stop(): void {
  process.kill(process.pid, 'SIGTERM');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), GRACE_MS).unref();
}
