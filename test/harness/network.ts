import type { Host } from './host.ts';
import { NamespaceNetwork, namespaceObstacle } from './namespace-network.ts';
import { ProxyNetwork } from './proxy-network.ts';

/** What is wrong with one direction of a link. */
export type Trouble =
  /** Nothing arrives; the sender hears nothing of it. */
  | { readonly kind: 'cut' }
  /** That share of the packets does not arrive. */
  | { readonly kind: 'loss'; readonly percent: number }
  /** Everything arrives later, and up to `jitterMillis` later still. */
  | { readonly kind: 'delay'; readonly millis: number; readonly jitterMillis: number };

/** What a host of a farm does; where hosts can't be told apart by their address, those of one role share their links. */
export type Role = 'nats' | 'coordinator' | 'agent';

/** A network between hosts, each direction of each link of which can be made bad. */
export interface Network extends AsyncDisposable {
  /** How it is made, and what that means for the faults. */
  readonly description: string;
  /** A new host. */
  host(name: string, role: Role): Promise<Host>;
  /** A port of a host that nothing listens on. */
  freePort(host: Host): Promise<number>;
  /** `host:port` under which processes on `from` reach a port of `to`. */
  reach(from: Host, to: Host, port: number): Promise<string>;
  /** `host:port` of a coordinator that any agent can dial. */
  advertised(to: Host, port: number): Promise<string>;
  /** Whether there can be such trouble on the way from one to the other. */
  supports(kind: Trouble['kind'], from: Host, to: Host): boolean;
  /** Makes one direction bad from now on, in place of what was wrong with it before; null makes it good. */
  disturb(from: Host, to: Host, trouble: Trouble | null): Promise<void>;
  /** Makes everything good. */
  heal(): Promise<void>;
}

/** Both directions of a link. */
export async function disturbBoth(network: Network, one: Host, other: Host, trouble: Trouble | null): Promise<void> {
  await Promise.all([network.disturb(one, other, trouble), network.disturb(other, one, trouble)]);
}

/**
 * Opens a network: of namespaces, where every host is alone with an address of its own and the kernel drops packets; or,
 * where that is not possible, of proxies between processes on this machine, which can do less.
 */
export async function openNetwork(): Promise<Network> {
  const obstacle = namespaceObstacle();
  return obstacle === null ? NamespaceNetwork.open() : new ProxyNetwork(obstacle);
}
