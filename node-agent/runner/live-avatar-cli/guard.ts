/**
 * Starts the processes of one model call and ends them with the runner: it leads their process group, and kills the
 * whole group as soon as its standard input ends, which the kernel sees to however the runner dies. On the last
 * descriptor it writes a line of JSON for each process that ended, and after the last one it leaves.
 */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import type { RankCommand } from './command.ts';
import type { RankEnd } from './failure.ts';

/** First descriptor of the processes' outputs: standard output and error of rank 0, then of rank 1, and so on. */
const FIRST_OUTPUT = 4;

/** Descriptor of the reports. */
const REPORT = 3;

function killGroup(): never {
  process.kill(-process.pid, 'SIGKILL');
  process.exit(1);
}

function start(commands: readonly RankCommand[], cwd: string): void {
  const report = createWriteStream('', { fd: REPORT });
  // Nobody reads it: the runner is gone.
  report.on('error', killGroup);
  let running = commands.length;
  const ended = (end: RankEnd & { readonly error?: string }): void => {
    running -= 1;
    report.write(`${JSON.stringify(end)}\n`);
    if (running === 0) report.end(() => process.exit(0));
  };
  for (const [i, { rank, command, args, env }] of commands.entries()) {
    const output = FIRST_OUTPUT + 2 * i;
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', output, output + 1] });
    child.once('error', (error) => ended({ rank, code: null, signal: null, error: error.message }));
    child.once('exit', (code, signal) => ended({ rank, code, signal }));
  }
}

let request = '';
let started = false;
process.stdin.setEncoding('utf8');
process.stdin.on('data', (text: string) => {
  request += text;
  if (started || !request.endsWith('\n')) return;
  started = true;
  const { commands, cwd } = JSON.parse(request) as { commands: readonly RankCommand[]; cwd: string };
  start(commands, cwd);
});
process.stdin.on('end', killGroup);
process.stdin.on('error', killGroup);
