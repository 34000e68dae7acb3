import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { type Host, thisMachine, tiedToThisProcess } from './host.ts';
import { atEnd } from './owner.ts';

/** A child process under test, in its own process group, its output in a file. */
export class TestProcess {
  readonly child: ChildProcess;
  readonly logPath: string;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;

  private constructor(child: ChildProcess, logPath: string) {
    this.child = child;
    this.logPath = logPath;
    this.exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  }

  /** Starts a program of the product on the Node that runs the tests. */
  static start(main: string, args: readonly string[], logPath: string, host: Host = thisMachine): TestProcess {
    const [file = '', ...argv] = host.command(tiedToThisProcess([process.execPath, main, ...args]));
    const child = spawn(file, argv, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(logPath, { flags: 'a' });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const running = new TestProcess(child, logPath);
    live.add(running);
    running.exited.then(() => {
      live.delete(running);
      log.end();
    });
    return running;
  }

  /** Whether it still runs. */
  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Sends a signal to the process alone. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) this.child.kill(signal);
  }

  /** Ends it kindly, after five seconds by force, and waits. @returns its exit code */
  async stop(): Promise<number | null> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), 5000);
    const { code } = await this.exited;
    clearTimeout(timer);
    return code;
  }

  /** Kills it without warning and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.exited;
  }

  /** What it wrote so far. */
  output(): string {
    return readFileSync(this.logPath, 'utf8');
  }
}

const live = new Set<TestProcess>();

// Whatever happens to a test run, nothing it started survives it.
atEnd(() => {
  for (const { child } of live) {
    if (child.pid === undefined) continue;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Gone already.
    }
  }
});
