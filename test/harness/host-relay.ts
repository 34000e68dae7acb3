import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Host, tiedToThisProcess } from './host.ts';
import type { Lanes } from './lane.ts';
import type { RelayCommand } from './relay-program.ts';

const program = fileURLToPath(new URL('relay-program.ts', import.meta.url));

/**
 * TCP relays on a host in front of its servers: transparent until told to be late. They are behind the host's own packet
 * filter, so what that drops is dropped as if they were not there.
 */
export class HostRelay {
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #lines: Interface;
  /** Ports of relays by the port that they lead to. */
  readonly #ports = new Map<number, Promise<number>>();
  #commands: Promise<unknown> = Promise.resolve();

  /** Starts the relays' process; it ends with this one. */
  constructor(host: Host) {
    this.#host = host;
    const [file = '', ...args] = host.command(tiedToThisProcess([process.execPath, program]));
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout });
    this.#answers = this.#lines[Symbol.asyncIterator]();
  }

  /** The port of the relay that leads to a port of this host; it is opened on `free` when there is none yet. */
  portTo(to: number, free: () => Promise<number>): Promise<number> {
    const known = this.#ports.get(to) ?? this.#open(to, free);
    this.#ports.set(to, known);
    return known;
  }

  /** Makes everything late that a peer sends, or is sent, over connections that it dialled; zeros end that. */
  async delay(peer: Host, direction: keyof Lanes, millis: number, jitterMillis: number): Promise<void> {
    await this.#tell({ kind: 'delay', peer: peer.address, direction, millis, jitterMillis });
  }

  /** Ends the process and all connections through it. */
  async close(): Promise<void> {
    this.#lines.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  async #open(to: number, free: () => Promise<number>): Promise<number> {
    const port = await free();
    await this.#tell({ kind: 'open', address: this.#host.address, port, to });
    return port;
  }

  /** One command after the other, each done when this resolves. */
  #tell(command: RelayCommand): Promise<void> {
    const told = this.#commands.then(async () => {
      this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
      const { done } = await this.#answers.next();
      if (done) throw new Error(`the relays of ${this.#host.name} have ended`);
    });
    this.#commands = told.catch(() => undefined);
    return told;
  }
}
