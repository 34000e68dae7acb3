import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';

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
    this.#server = createServer((incoming, outgoing) => this.#pass(socketPath, incoming, outgoing));
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

  #pass(socketPath: string, incoming: IncomingMessage, outgoing: ServerResponse): void {
    const url = new URL(incoming.url ?? '/', 'http://proxy');
    const seen = { method: incoming.method ?? '', path: decodeURIComponent(url.pathname), query: url.searchParams };
    this.requests.push(seen);
    const fault = this.fault(seen);
    if (fault?.kind === 'drop') {
      incoming.socket.destroy();
      return;
    }
    if (fault?.kind === 'answer') {
      incoming.resume().on('end', () => outgoing.writeHead(fault.status).end(fault.body));
      return;
    }
    const { method, headers } = incoming;
    // The path and the headers, the host among them, are signed, so they go on as they came.
    const forward = request({ socketPath, method, path: incoming.url, headers, agent: false }, (answer) => {
      if (fault?.kind === 'lose') {
        answer.resume().on('end', () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      if (fault?.kind === 'cut') void cut(answer, outgoing, fault.afterBytes);
      else answer.pipe(outgoing);
    });
    forward.on('error', () => incoming.socket.destroy());
    outgoing.on('close', () => forward.destroy());
    incoming.pipe(forward);
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
