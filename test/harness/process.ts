import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { type Host, thisMachine, tiedToThisProcess } from './host.ts';
import { atEnd } from './owner.ts';

/** One that was asked to end and has not after this long never will. */
const STOP_MILLIS = 60_000;

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
    // It writes into the file itself: what it has said is there at once, also when it is killed then.
    const log = openSync(logPath, 'a');
    const child = spawn(file, argv, { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    const running = new TestProcess(child, logPath);
    // Whatever happens to a test run, nothing it started survives it.
    const takeBack = atEnd(() => running.signal('SIGKILL', true));
    running.exited.then(takeBack);
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

  /** Ends it kindly, after a minute by force, and waits. @returns its exit code, null if by force */
  async stop(): Promise<number | null> {
    this.expected = true;
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), STOP_MILLIS);
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
