import assert from 'node:assert/strict';
import { type Host, thisMachine } from './host.ts';
import type { Network, Role, Trouble } from './network.ts';
import { freePorts } from './ports.ts';
import { TcpProxy } from './tcp-proxy.ts';

interface ProxyHost extends Host {
  readonly role: Role;
}

interface Link {
  readonly from: ProxyHost;
  readonly to: ProxyHost;
  readonly port: number;
  readonly proxy: TcpProxy;
}

/**
 * Hosts that are all this machine, with TCP proxies on the links to coordinators and from them to NATS. The agents share
 * one address, so their links to a coordinator are one link; NATS servers find each other by themselves, without proxies.
 */
export class ProxyNetwork implements Network {
  readonly description: string;
  readonly #hosts: ProxyHost[] = [];
  readonly #links: Link[] = [];
  /** Stands for all of them. */
  readonly #anyAgent: ProxyHost = { ...thisMachine, name: 'the agents', role: 'agent' };

  /** @param why this and no namespaces */
  constructor(why: string) {
    this.description = `TCP proxies on this machine, because ${why}: all agents share their link to a coordinator, no packets are lost, and NATS servers are not cut from each other`;
  }

  async host(name: string, role: Role): Promise<Host> {
    const host = { ...thisMachine, name, role };
    this.#hosts.push(host);
    return host;
  }

  async freePort(): Promise<number> {
    return (await freePorts(1))[0] ?? assert.fail('no port');
  }

  async advertised(to: Host, port: number): Promise<string> {
    return this.#dial(this.#anyAgent, this.#own(to), port);
  }

  async reach(from: Host, to: Host, port: number): Promise<string> {
    return this.#dial(this.#own(from), this.#own(to), port);
  }

  async #dial(one: ProxyHost, other: ProxyHost, port: number): Promise<string> {
    if (one.role === other.role) return `${other.address}:${port}`;
    const known = this.#links.find((link) => link.port === port && isBetween(link, one, other));
    if (known) return known.proxy.address;
    const proxy = await TcpProxy.start({ to: port });
    this.#links.push({ from: one, to: other, port, proxy });
    return proxy.address;
  }

  supports(kind: Trouble['kind'], from: Host, to: Host): boolean {
    return kind !== 'loss' && this.#own(from).role !== this.#own(to).role;
  }

  async disturb(from: Host, to: Host, trouble: Trouble | null): Promise<void> {
    await this.#disturb(this.#own(from), this.#own(to), trouble);
  }

  async #disturb(one: ProxyHost, other: ProxyHost, trouble: Trouble | null): Promise<void> {
    for (const link of this.#links) {
      for (const lane of [
        ...(isBetween(link, one, other) ? [link.proxy.lanes.forth] : []),
        ...(isBetween(link, other, one) ? [link.proxy.lanes.back] : []),
      ]) {
        lane.cut = trouble?.kind === 'cut';
        const late = trouble?.kind === 'delay' ? trouble : { millis: 0, jitterMillis: 0 };
        lane.delayMillis = late.millis;
        lane.jitterMillis = late.jitterMillis;
      }
    }
  }

  async heal(): Promise<void> {
    for (const { from, to } of this.#links) {
      await this.#disturb(from, to, null);
      await this.#disturb(to, from, null);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#links.map(({ proxy }) => proxy[Symbol.asyncDispose]()));
  }

  #own(host: Host): ProxyHost {
    return this.#hosts.find((own) => own === host) ?? assert.fail(`${host.name} is not of this network`);
  }
}

/** Whether a link is dialled from the one to the other; agents are not told apart. */
function isBetween(link: Link, from: ProxyHost, to: ProxyHost): boolean {
  const dialled = from.role === 'agent' ? link.from.role === 'agent' : link.from === from;
  return dialled && link.to === to;
}
