import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Lane, type Lanes, pump } from './lane.ts';

/** Where a {@link TcpProxy} listens, and where it leads to. */
export interface TcpProxyOptions {
  /** @default this machine's own */
  readonly host?: string;
  /** @default a free one */
  readonly port?: number;
  /** Port of the same host to dial. */
  readonly to: number;
  /** Lanes of whoever dials from an address. @default the same for all */
  readonly lanesOf?: (address: string) => Lanes;
  /** Hears of each piece from whoever dials, before it goes on: shutting its lane keeps that piece as well. */
  readonly seen?: (data: Buffer) => void;
}

/**
 * A TCP proxy whose directions can be shut or slowed. As with a cut cable neither side hears of it: connections stay
 * open, new ones get no answer, and what was sent meanwhile arrives afterwards.
 */
export class TcpProxy implements AsyncDisposable {
  readonly lanes: Lanes = { forth: new Lane(), back: new Lane() };
  readonly #server: Server;
  readonly #host: string;
  readonly #to: number;
  readonly #lanesOf: (address: string) => Lanes;
  readonly #seen: ((data: Buffer) => void) | undefined;
  readonly #sockets = new Set<Socket>();

  private constructor({ host = '127.0.0.1', to, lanesOf = () => this.lanes, seen }: TcpProxyOptions) {
    this.#host = host;
    this.#to = to;
    this.#lanesOf = lanesOf;
    this.#seen = seen;
    this.#server = createServer({ allowHalfOpen: true }, (client) => void this.#pass(client));
  }

  /** Begins to listen. */
  static async start(options: TcpProxyOptions): Promise<TcpProxy> {
    const proxy = new TcpProxy(options);
    await once(proxy.#server.listen(options.port ?? 0, proxy.#host), 'listening');
    return proxy;
  }

  /** `host:port` to dial. */
  get address(): string {
    const address = this.#server.address();
    assert.ok(typeof address === 'object' && address !== null, 'the proxy listens');
    return `${this.#host}:${address.port}`;
  }

  async #pass(client: Socket): Promise<void> {
    this.#keep(client);
    const { forth, back } = this.#lanesOf(client.remoteAddress ?? '');
    // A connection needs both directions to come about.
    for (const lane of [forth, back]) await lane.passed(lane.due());
    if (client.destroyed) return;
    const server = this.#keep(connect({ port: this.#to, host: this.#host, allowHalfOpen: true }));
    await Promise.all([pump(client, server, forth, this.#seen), pump(server, client, back)]);
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    return socket.setNoDelay();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.lanes.forth.cut = false;
    this.lanes.back.cut = false;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}
