/**
 * A process that starts a runner on the stand-in, gives it a span, and waits to be killed: `parent.ts INPUTS`, with the
 * inputs as JSON. It prints the runner's process id once a clip is there, or once the span is over and the call is held.
 */
import { RunnerProcess } from '../../../src/runner/runner-process.ts';
import { type Inputs, startOptions } from './harness.ts';

const inputs = JSON.parse(process.argv[2] ?? '') as Inputs;
const last = inputs.request.end < inputs.request.clips ? 'spanEnded' : 'clip';
const runner = await RunnerProcess.start({
  ...startOptions(inputs),
  onStderr: (line) => process.stderr.write(`${line}\n`),
  onMessage: async ({ type }) => {
    if (type === 'loaded') await runner.send({ type: 'render', request: inputs.request });
    if (type === last) process.stdout.write(`${runner.pid}\n`);
  },
});
await runner.send({ type: 'load' });
