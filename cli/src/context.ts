import type { Command } from 'commander';
import { type Connection, connect } from './farm/connection.ts';
import { asTyped } from './render/program-name.ts';
import { createStyle, type Style, wantsColor } from './render/style.ts';
import { printable } from './render/text.ts';
import type { Shell } from './shell.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly coordinator?: string;
  readonly tokenFile?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecure?: boolean;
  readonly format: 'human' | 'json';
  readonly color: 'auto' | 'always' | 'never';
}

/** Address that is dialled when neither flag nor environment names one. */
export const DEFAULT_COORDINATOR = '127.0.0.1:7400';

/** What a command works with: its surroundings and the global options. */
export interface Context {
  readonly shell: Shell;
  readonly globals: GlobalOptions;
  /** True for `-o json`. */
  readonly json: boolean;
  /** Decoration of what goes to stdout. */
  readonly style: Style;
  /** Decoration of what goes to stderr. */
  readonly noteStyle: Style;
  /** Address of the coordinator, `host:port`. */
  readonly coordinator: string;
  /** Writes lines of data to stdout. */
  print(lines: readonly string[]): void;
  /** Writes one JSON document to stdout: indented, or on one line as part of a stream. */
  printJson(value: unknown, layout?: 'document' | 'line'): void;
  /** Writes a line of plain text to stderr. */
  note(text: string): void;
  /** Writes decorated lines to stderr. */
  tell(lines: readonly string[]): void;
  /**
   * Opens a connection for as long as `use` runs.
   *
   * @param address to be dialled in place of {@link coordinator}
   */
  withFarm<T>(use: (farm: Connection) => Promise<T>, address?: string): Promise<T>;
}

/** @param command any command; the global options are found from it. */
export function createContext(shell: Shell, command: Command): Context {
  const globals = command.optsWithGlobals<GlobalOptions>();
  const { environment } = shell;
  const styleFor = (stream: { readonly isTTY?: boolean }) =>
    createStyle(wantsColor({ when: globals.color, isTTY: stream.isTTY === true, plain: environment.plain }));
  const coordinator = globals.coordinator ?? environment.coordinator ?? DEFAULT_COORDINATOR;
  return {
    shell,
    globals,
    json: globals.format === 'json',
    style: styleFor(shell.stdout),
    noteStyle: styleFor(shell.stderr),
    coordinator,
    print: (lines) => void shell.stdout.write(lines.map((line) => `${line}\n`).join('')),
    printJson: (value, layout = 'document') =>
      void shell.stdout.write(`${JSON.stringify(value, null, layout === 'document' ? 2 : 0)}\n`),
    note: (text) => void shell.stderr.write(`${asTyped(printable(text), environment.program)}\n`),
    tell: (lines) => void shell.stderr.write(asTyped(lines.map((line) => `${line}\n`).join(''), environment.program)),
    async withFarm(use, address = coordinator) {
      const farm = connect({
        address,
        tokenPath: globals.tokenFile ?? environment.tokenFile,
        caPath: globals.tlsCa ?? environment.tlsCa,
        certPath: globals.tlsCert ?? environment.tlsCert,
        keyPath: globals.tlsKey ?? environment.tlsKey,
        insecure: globals.insecure === true,
        signal: shell.interrupted,
      });
      try {
        return await use(farm);
      } finally {
        farm.close();
      }
    },
  };
}
