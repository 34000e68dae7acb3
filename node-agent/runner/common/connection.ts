import { connect, type Socket } from 'node:net';
import { FarmError } from '@clipfarm/shared/errors';
import { encodeFrame, FrameDecoder } from '../../src/runner/framing.ts';
import { type FromRunner, type ToRunner, toRunner } from '../../src/runner/protocol.ts';

/** The runner's end of the connection to its agent. */
export interface AgentConnection {
  /** What the agent sends; ends when the connection does. Throws FarmError `invalid_argument` for malformed input. */
  readonly messages: AsyncIterable<ToRunner>;
  /** Resolves when the kernel has it all: `payload` may be used again then. Rejects when the connection is gone. */
  send(message: FromRunner, payload?: Uint8Array): Promise<void>;
}

/** Connects to the agent's socket. Throws FarmError `unavailable` when nobody listens there. */
export async function connectToAgent(path: string): Promise<AgentConnection> {
  const socket = await connected(path);
  // The reader sees the end of the connection, whatever the reason; a write that fails says so itself.
  socket.on('error', () => {});
  return {
    messages: receive(socket),
    send: (message, payload) =>
      new Promise((resolve, reject) => {
        const parts = encodeFrame(message, payload);
        socket.cork();
        for (const [i, part] of parts.entries()) {
          if (i < parts.length - 1) socket.write(part);
          else socket.write(part, (error) => (error ? reject(error) : resolve()));
        }
        socket.uncork();
      }),
  };
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.once('error', (cause) => {
      const message = `cannot connect to the agent at "${path}": ${cause.message}`;
      reject(new FarmError('unavailable', message, { field: '--socket', cause }));
    });
  });
}

async function* receive(socket: Socket): AsyncGenerator<ToRunner> {
  const decoder = new FrameDecoder(toRunner);
  const chunks: AsyncIterator<Uint8Array> = socket[Symbol.asyncIterator]();
  for (;;) {
    const chunk = await chunks.next().catch(() => ({ done: true }) as const);
    if (chunk.done) return;
    for (const { message } of decoder.push(chunk.value)) yield message;
  }
}
