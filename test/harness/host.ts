/** Where a process under test runs: this machine itself, or a network namespace of its own on it. */
export interface Host {
  readonly name: string;
  /** IP address that its processes listen on. */
  readonly address: string;
  /** The command line that runs a program there. */
  command(argv: readonly string[]): readonly string[];
}

/** This machine, without anything between its processes. */
export const thisMachine: Host = { name: 'this machine', address: '127.0.0.1', command: (argv) => argv };

/** Wraps a command line so that the kernel ends the program when this process ends, however it does. */
export function tiedToThisProcess(argv: readonly string[]): readonly string[] {
  return ['setpriv', '--pdeathsig', 'KILL', ...argv];
}
