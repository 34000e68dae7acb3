import type { TestContext } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { runCli } from '../program.ts';
import type { FakeFarm } from './fake-farm.ts';
import { pngHeader, wav, writeSample } from './media-files.ts';
import { testShell } from './test-shell.ts';

/** A directory with the inputs of a job, gone after the test. */
export interface Files {
  readonly dir: string;
  readonly image: string;
  readonly audio: string;
}

/** Makes {@link Files}. */
export function files(t: TestContext): Files {
  const dir = temporaryDirectory(t);
  return {
    dir,
    image: writeSample(dir, 'me.png', pngHeader(1280, 720)),
    audio: writeSample(dir, 'talk.wav', wav(300_000)),
  };
}

/** Runs a command of the program, against a farm or none. @returns exit code and what was printed */
export async function cli(farm: FakeFarm | undefined, ...argv: string[]) {
  const shell = testShell(farm === undefined ? {} : { CLIPFARM_COORDINATOR: farm.address });
  const code = await runCli(argv, shell);
  return { code, out: shell.stdout.text, err: shell.stderr.text };
}
