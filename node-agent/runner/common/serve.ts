import { FarmError } from '@clipfarm/shared/errors';
import { type FromRunner, RUNNER_PROTOCOL } from '../../src/runner/protocol.ts';
import { connectToAgent } from './connection.ts';
import { type Renderer, Session } from './session.ts';

/** Who a runner is, as its `hello` says. */
export type Introduction = Pick<
  Extract<FromRunner, { type: 'hello' }>,
  'runner' | 'version' | 'capabilities' | 'versions'
>;

/** How a runner is served; see {@link serveAgent}. */
export interface Service {
  /** Path of the agent's Unix socket. */
  readonly socket: string;
  readonly introduction: Introduction;
  readonly renderer: Renderer;
  /** True from when on messages are not obeyed any more: a runner that acts out a hang. */
  readonly deaf?: () => boolean;
}

/** Serves the agent until it says goodbye or is gone. Throws FarmError when the connection can't be used. */
export async function serveAgent({ socket, introduction, renderer, deaf }: Service): Promise<void> {
  const agent = await connectToAgent(socket);
  await agent.send({ type: 'hello', protocol: RUNNER_PROTOCOL, pid: process.pid, ...introduction });
  const session = new Session(renderer, agent.send);
  try {
    for await (const message of agent.messages) {
      // A process that hangs in a driver obeys nothing, but the end of the connection still ends it.
      if (deaf?.()) continue;
      if (message.type === 'shutdown') return;
      // Rejects only when the connection is gone, which ends this loop too.
      session.handle(message).catch(() => {});
    }
  } finally {
    session.abandon();
  }
}

/** Ends this process with the outcome of `work`: 2 for wrong arguments, 1 for other failures, which are printed. */
export function exitWith(name: string, work: Promise<void>): void {
  work.then(
    // Explicitly: a span may be running, and must not outlive the connection.
    () => process.exit(0),
    (error: unknown) => {
      const { message, hint, code } = FarmError.from(error);
      process.stderr.write(`${name}: ${message}\n${hint === undefined ? '' : `${hint}\n`}`);
      process.exit(code === 'invalid_argument' ? 2 : 1);
    },
  );
}
