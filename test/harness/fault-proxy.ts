import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { buffer } from 'node:stream/consumers';

/** A request that came to a {@link FaultProxy}. */
export interface ProxiedRequest {
  readonly method: string;
  /** Path without the query, decoded. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/**
 * What becomes of a request instead of its way through: an answer of the proxy's own, a connection that closes without an
 * answer, an answer whose body breaks off after some bytes, or an answer that is lost although the server did the work.
 */
export type Fault =
  | { readonly kind: 'answer'; readonly status: number; readonly body?: string }
  | { readonly kind: 'drop' }
  | { readonly kind: 'cut'; readonly afterBytes: number }
  | { readonly kind: 'lose' };

/** An HTTP proxy in front of a server on a Unix socket. It keeps a list of requests and can do harm to them. */
export class FaultProxy implements AsyncDisposable {
  /** Every request so far, in order. */
  readonly requests: ProxiedRequest[] = [];
  /** Asked for every request; null lets it pass. */
  fault: (request: ProxiedRequest) => Fault | null = () => null;
  readonly #server: Server;

  private constructor(socketPath: string) {
    this.#server = createServer((incoming, outgoing) => void this.#pass(socketPath, incoming, outgoing));
  }

  static async start(socketPath: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(socketPath);
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening');
    return proxy;
  }

  /** `http://127.0.0.1:PORT`. */
  get origin(): string {
    const address = this.#server.address();
    assert.ok(typeof address === 'object' && address !== null, 'the proxy listens');
    return `http://127.0.0.1:${address.port}`;
  }

  /** Lets everything pass and forgets what came. */
  reset(): void {
    this.requests.length = 0;
    this.fault = () => null;
  }

  async #pass(socketPath: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', 'http://proxy');
    const seen = { method: incoming.method ?? '', path: decodeURIComponent(url.pathname), query: url.searchParams };
    this.requests.push(seen);
    const fault = this.fault(seen);
    if (fault?.kind === 'drop') {
      incoming.socket.destroy();
      return;
    }
    const body = await buffer(incoming).catch(() => null);
    // Its client is gone.
    if (body === null) return;
    if (fault?.kind === 'answer') {
      outgoing.writeHead(fault.status).end(fault.body);
      return;
    }
    // The path and the headers, the host among them, are signed, so they go on as they came. The body is here already, and
    // nobody signs that it was waited for.
    const { expect: _, ...headers } = incoming.headers;
    const forward = request({ socketPath, method: seen.method, path: incoming.url, headers, agent: false });
    let answered = false;
    forward.on('response', (answer) => {
      answered = true;
      if (fault?.kind === 'lose') {
        answer.resume().on('end', () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      if (fault?.kind === 'cut') void cut(answer, outgoing, fault.afterBytes);
      else pipeline(answer, outgoing, () => undefined);
    });
    // A server may refuse by the headers alone and close; what it said goes before what could not be sent any more.
    forward.on('error', () => {
      if (!answered) incoming.socket.destroy();
    });
    outgoing.on('close', () => forward.destroy());
    // Headers and body at once: to a server that has refused by the headers a body that comes later can't be written, and
    // its answer would be lost with the connection.
    forward.end(body);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}

async function cut(answer: IncomingMessage, outgoing: ServerResponse, afterBytes: number): Promise<void> {
  let left = afterBytes;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    const part = piece.subarray(0, left);
    left -= part.length;
    await new Promise((resolve) => outgoing.write(part, resolve));
    if (left === 0) break;
  }
  outgoing.destroy();
}
