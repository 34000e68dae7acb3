/**
 * A process that starts the synthetic runner, gives it a long span, and waits to be killed: `parent.ts SPAN DIR`, with the
 * span's request as JSON and a directory for the socket. It prints the runner's process id once frames arrive.
 */
import { fileURLToPath } from 'node:url';
import { spanRequest } from '../../../src/runner/protocol.ts';
import { RunnerProcess } from '../../../src/runner/runner-process.ts';

const [span = '', socketDir = ''] = process.argv.slice(2);
const request = spanRequest.parse(JSON.parse(span));
const runner = await RunnerProcess.start({
  command: process.execPath,
  args: [fileURLToPath(new URL('../main.ts', import.meta.url)), '--seconds-per-clip', '1'],
  env: { PATH: process.env.PATH ?? '' },
  socketDir,
  helloTimeoutMs: 60_000,
  onStderr: (line) => process.stderr.write(`${line}\n`),
  onMessage: async ({ type }) => {
    if (type === 'loaded') await runner.send({ type: 'render', request });
    if (type === 'progress') process.stdout.write(`${runner.pid}\n`);
  },
});
await runner.send({ type: 'load' });
