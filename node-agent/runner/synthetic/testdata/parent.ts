/**
 * A process that starts the synthetic runner, gives it a long span, and waits to be killed: `parent.ts SPAN`, with the
 * span's request as JSON. It prints the runner's process id once frames arrive.
 */
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { spanRequest } from '../../../src/runner/protocol.ts';
import { RunnerProcess } from '../../../src/runner/runner-process.ts';

const request = spanRequest.parse(JSON.parse(process.argv[2] ?? ''));
const runner = await RunnerProcess.start({
  command: process.execPath,
  args: [fileURLToPath(new URL('../main.ts', import.meta.url)), '--seconds-per-clip', '1'],
  env: { PATH: process.env.PATH ?? '' },
  socketDir: tmpdir(),
  helloTimeoutMs: 60_000,
  onStderr: (line) => process.stderr.write(`${line}\n`),
  onMessage: async ({ type }) => {
    if (type === 'loaded') await runner.send({ type: 'render', request });
    if (type === 'progress') process.stdout.write(`${runner.pid}\n`);
  },
});
await runner.send({ type: 'load' });
