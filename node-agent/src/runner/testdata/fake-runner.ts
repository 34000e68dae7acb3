/**
 * A runner for tests that misbehaves on demand: `fake-runner.ts BEHAVIOUR --socket PATH`. It says hello, unless its
 * behaviour is about that, and then does what its behaviour says.
 */
import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { encodeFrame, FrameDecoder } from '../framing.ts';
import { type FromRunner, RUNNER_PROTOCOL, type ToRunner, toRunner } from '../protocol.ts';

const [behaviour, , path = ''] = process.argv.slice(2);
const SLEEPER = ['-e', 'setInterval(() => {}, 1000)'] as const;

function hello(protocol = RUNNER_PROTOCOL): FromRunner {
  const capabilities = { setEnd: true, continues: false };
  return { type: 'hello', protocol, runner: 'fake', version: '9', pid: process.pid, capabilities, versions: {} };
}

function send(socket: Socket, message: FromRunner, payload?: Uint8Array): void {
  for (const part of encodeFrame(message, payload)) socket.write(part);
}

/** Reports text to the test: as a phase of loading. */
function tell(socket: Socket, phase: string): void {
  send(socket, { type: 'loading', phase, fraction: 0 });
}

function onMessages(socket: Socket, take: (message: ToRunner) => void): void {
  const decoder = new FrameDecoder(toRunner);
  socket.on('data', (bytes) => {
    for (const { message } of decoder.push(bytes)) take(message);
  });
  socket.on('close', () => process.exit(0));
}

/** A member of this process' group that outlives it unless the whole group is killed. */
function spawnChild(): number {
  return spawn(process.execPath, SLEEPER, { stdio: 'inherit' }).pid ?? 0;
}

const behaviours: Readonly<Record<string, (socket: Socket) => void>> = {
  polite(socket) {
    // In one piece, so that messages are there as soon as the hello is.
    socket.cork();
    send(socket, hello());
    tell(socket, modes);
    tell(socket, `environment ${Object.keys(process.env).sort().join(' ')}`);
    socket.uncork();
    onMessages(socket, (message) => {
      if (message.type === 'shutdown') process.exit(0);
      tell(socket, `got ${message.type}`);
    });
  },
  silent() {},
  'old-protocol': (socket) => send(socket, hello(0)),
  'no-greeting': (socket) => tell(socket, 'first'),
  garbage(socket) {
    send(socket, hello());
    socket.write('GET / HTTP/1.1\r\n\r\n');
    // Stays, so that only the agent can end it.
    setInterval(() => {}, 1000);
  },
  'last-words'(socket) {
    send(socket, hello());
    send(socket, { type: 'error', class: 'device', message: 'XID 79' }, undefined);
    process.stderr.write('falling\noff the bus');
    socket.end(() => process.exit(7));
  },
  flood(socket) {
    send(socket, hello());
    // More than a kernel that was tuned for fast networks takes at once.
    const payload = Buffer.alloc(30 * 1024 * 1024);
    let produced = 0;
    const next = (): void => {
      for (const part of encodeFrame({ type: 'frames', leaseId: 'l', produced, count: 1 }, payload)) {
        socket.write(part, part === payload ? next : undefined);
      }
      produced += 1;
      process.stdout.write(`sent ${produced}\n`);
    };
    next();
    onMessages(socket, () => {});
  },
  'deaf-to-shutdown'(socket) {
    send(socket, hello());
    tell(socket, `child ${spawnChild()}`);
    socket.resume();
  },
  'deaf-to-sigterm'(socket) {
    process.on('SIGTERM', () => tell(socket, 'ignored SIGTERM'));
    send(socket, hello());
    socket.resume();
    setInterval(() => {}, 1000);
  },
  'leaves-child'(socket) {
    send(socket, hello());
    tell(socket, `child ${spawnChild()}`);
    onMessages(socket, () => process.kill(process.pid, 'SIGKILL'));
  },
};

if (behaviour === 'early-exit') {
  process.stderr.write('no CUDA device found\n');
  process.exit(3);
}
// Before connecting: the agent removes the socket then.
const mode = (at: string): string => (statSync(at).mode & 0o777).toString(8);
const modes = `socket ${mode(path)} directory ${mode(dirname(path))}`;
const socket = connect(path, () => behaviours[behaviour ?? '']?.(socket));
