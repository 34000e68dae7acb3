import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type ListenOptions, type Server } from 'node:net';

/** Linux gives ports from 32768 on to whoever asks for any, outgoing connections included. Nobody gets one of these by chance. */
const [FIRST, END] = [20_000, 32_000];

/** More than this many that are taken in a row: something is wrong. */
const ATTEMPTS = 1000;

/**
 * Ports of this machine that nobody listens on, and that no other test process is given while this one lives. So a server
 * can be started on its port later, be killed, and find it free again.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = [];
  for (let attempts = 0; ports.length < count; attempts++) {
    assert.ok(attempts < ATTEMPTS, 'this machine has free ports');
    const port = randomInt(FIRST, END);
    if (await claim(port)) ports.push(port);
  }
  return ports;
}

/** @returns false when another test process has the port, or anybody listens on it */
async function claim(port: number): Promise<boolean> {
  // The kernel keeps this name for as long as this process lives, and no file stays behind.
  const name = await listenOn({ path: `\0clipfarm-test-port-${port}` });
  if (name === null) return false;
  name.unref();
  const probe = await listenOn({ port, host: '127.0.0.1' });
  const ours = probe === null ? name : probe;
  await once(ours.close(), 'close');
  return probe !== null;
}

/** A server that listens, null when the address is in use. */
async function listenOn(where: ListenOptions): Promise<Server | null> {
  const server = createServer();
  try {
    await once(server.listen(where), 'listening');
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return null;
    throw error;
  }
}
