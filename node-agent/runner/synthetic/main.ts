/**
 * The synthetic runner: a renderer without a GPU that speaks the runner protocol and obeys the model's rules. It draws
 * the portrait talking, and stamps every frame. For trying the farm, and for testing it.
 */
import { FarmError } from '@clipfarm/shared/errors';
import { RUNNER_PROTOCOL } from '../../src/runner/protocol.ts';
import { connectToAgent } from './connection.ts';
import { parseOptions } from './options.ts';
import { Session } from './session.ts';

const VERSION = '1.0.0';

/** Serves the agent until it says goodbye or is gone. */
async function serve(args: readonly string[]): Promise<void> {
  const options = parseOptions(args);
  const agent = await connectToAgent(options.socket);
  await agent.send({
    type: 'hello',
    protocol: RUNNER_PROTOCOL,
    runner: 'synthetic',
    version: VERSION,
    pid: process.pid,
    capabilities: { setEnd: true, continues: true },
    versions: { node: process.versions.node },
  });
  const session = new Session(options, agent.send);
  for await (const message of agent.messages) {
    // A process that hangs in a driver obeys nothing, but the end of the connection still ends it.
    if (session.hung) continue;
    if (message.type === 'shutdown') return;
    // Rejects only when the connection is gone, which ends this loop too.
    session.handle(message).catch(() => {});
  }
}

serve(process.argv.slice(2)).then(
  // Explicitly: a span may be running, and must not outlive the connection.
  () => process.exit(0),
  (error: unknown) => {
    const { message, hint, code } = FarmError.from(error);
    process.stderr.write(`synthetic runner: ${message}\n${hint === undefined ? '' : `${hint}\n`}`);
    process.exit(code === 'invalid_argument' ? 2 : 1);
  },
);
