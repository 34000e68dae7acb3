import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** One direction through a {@link TcpProxy}. While it is shut, bytes wait; they arrive, in order, once it is open. */
class Lane {
  /** Milliseconds by which everything arrives later. */
  delayMillis = 0;
  #shut: PromiseWithResolvers<void> | null = null;

  set cut(value: boolean) {
    if (value) this.#shut ??= Promise.withResolvers();
    else {
      this.#shut?.resolve();
      this.#shut = null;
    }
  }

  /** Resolves once nothing holds up what came at `arrivedAt`. */
  async passed(arrivedAt: number): Promise<void> {
    const left = arrivedAt + this.delayMillis - performance.now();
    // Timers count whole milliseconds, and leave out what is less.
    if (left > 0) await sleep(Math.ceil(left) + 1);
    while (this.#shut) await this.#shut.promise;
  }
}

/**
 * A TCP proxy whose directions can be shut or slowed. As with a cut cable neither side hears of it: connections stay
 * open, new ones get no answer, and what was sent meanwhile arrives afterwards.
 */
export class TcpProxy implements AsyncDisposable {
  /** From whoever dials to the server. */
  readonly forth = new Lane();
  /** And from the server back. */
  readonly back = new Lane();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => void this.#pass(client, port));
  }

  /** Begins to listen on a free port of this machine and leads to another one. */
  static async start(port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(port);
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening');
    return proxy;
  }

  /** `127.0.0.1:PORT` to dial. */
  get address(): string {
    const address = this.#server.address();
    assert.ok(typeof address === 'object' && address !== null, 'the proxy listens');
    return `127.0.0.1:${address.port}`;
  }

  async #pass(client: Socket, port: number): Promise<void> {
    this.#keep(client);
    // A connection needs both directions to come about.
    for (const lane of [this.forth, this.back]) await lane.passed(performance.now());
    if (client.destroyed) return;
    const server = this.#keep(connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
    await Promise.all([pump(client, server, this.forth), pump(server, client, this.back)]);
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    return socket.setNoDelay();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.forth.cut = false;
    this.back.cut = false;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}

/** Carries one direction, its end and its failure included. */
async function pump(from: Socket, to: Socket, lane: Lane): Promise<void> {
  try {
    for await (const data of from as AsyncIterable<Buffer>) {
      await lane.passed(performance.now());
      if (!to.write(data)) await once(to, 'drain');
    }
    await lane.passed(performance.now());
    to.end();
  } catch {
    await lane.passed(performance.now());
    to.destroy();
  }
}
