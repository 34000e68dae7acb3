import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { type Host, thisMachine, tiedToThisProcess } from './host.ts';
import { atEnd } from './owner.ts';

/** A child process under test, in its own process group, its output in a file. */
export class TestProcess {
  readonly child: ChildProcess;
  readonly logPath: string;
  /** Whether a test has asked it to end. */
  expected = false;
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
    // Whatever happens to a test run, nothing it started survives it.
    const takeBack = atEnd(() => running.signal('SIGKILL', true));
    running.exited.then(() => {
      takeBack();
      log.end();
    });
    return running;
  }

  /** Whether it still runs. */
  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Sends a signal to the process alone, or to everything that it started as well. */
  signal(signal: NodeJS.Signals, whole = false): void {
    const { pid } = this.child;
    if (this.running && pid !== undefined) process.kill(whole ? -pid : pid, signal);
  }

  /** Ends it kindly, after five seconds by force, and waits. @returns its exit code */
  async stop(): Promise<number | null> {
    this.expected = true;
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), 5000);
    const { code } = await this.exited;
    clearTimeout(timer);
    return code;
  }

  /** Kills it without warning and waits until it is gone. */
  async kill(): Promise<void> {
    this.expected = true;
    this.signal('SIGKILL');
    await this.exited;
  }

  /** What it wrote so far. */
  output(): string {
    return readFileSync(this.logPath, 'utf8');
  }
}
