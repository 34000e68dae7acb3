import { createInterface } from 'node:readline';
import { Lane, type Lanes } from './lane.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** What a relay program reads from its standard input, one a line. Each is answered with `done`. */
export type RelayCommand =
  /** Listen on a port of this host's address and lead to another one. */
  | { readonly kind: 'open'; readonly address: string; readonly port: number; readonly to: number }
  /** How late everything is, from now on, that a peer sends (`forth`) or is sent (`back`) over connections that it dialled. */
  | {
      readonly kind: 'delay';
      readonly peer: string;
      readonly direction: keyof Lanes;
      readonly millis: number;
      readonly jitterMillis: number;
    };

const peers = new Map<string, Lanes>();

function lanesOf(address: string): Lanes {
  const known = peers.get(address) ?? { forth: new Lane(), back: new Lane() };
  peers.set(address, known);
  return known;
}

async function obey(command: RelayCommand): Promise<void> {
  if (command.kind === 'open') {
    const { address, port, to } = command;
    await TcpProxy.start({ host: address, port, to, lanesOf });
  } else {
    const lane = lanesOf(command.peer)[command.direction];
    lane.delayMillis = command.millis;
    lane.jitterMillis = command.jitterMillis;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  await obey(JSON.parse(line) as RelayCommand);
  console.log('done');
}
