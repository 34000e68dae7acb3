import { Writable } from 'node:stream';
import { systemClock } from '@clipfarm/shared/clock';
import { readEnvironment, type Shell, type TextStream } from '../shell.ts';

/** A stream that keeps what is written to it. */
export class CapturedStream extends Writable implements TextStream {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number;
  readonly rows = 30;

  constructor(isTTY = false, columns = 100) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
    this.columns = columns;
  }

  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += String(chunk);
    done();
  }
}

/** A shell whose output can be read and that can be interrupted. */
export interface TestShell extends Shell {
  readonly stdout: CapturedStream;
  readonly stderr: CapturedStream;
  interrupt(): void;
}

/**
 * @param env what the environment says, by variable.
 */
export function testShell(env: Readonly<Record<string, string>> = {}, stderr = new CapturedStream()): TestShell {
  const controller = new AbortController();
  return {
    stdout: new CapturedStream(),
    stderr,
    environment: readEnvironment(env, '/nonexistent'),
    serviceEnv: {},
    interrupted: controller.signal,
    clock: systemClock,
    interrupt: () => controller.abort('SIGINT'),
  };
}
