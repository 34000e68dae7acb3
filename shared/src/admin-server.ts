import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { formatAddress, parseAddress } from './address.ts';
import { cannotListen } from './rpc/server.ts';

/** What the admin server shows. */
export interface AdminServerOptions {
  /** `host:port`; loopback unless probes and Prometheus come from elsewhere. Nothing secret is served. */
  readonly listen: string;
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  /** Why the process can't take work now; empty when it can. */
  readonly readiness: () => readonly string[];
}

/** An admin server that listens. */
export interface AdminServer {
  /** Bound `host:port`. */
  readonly address: string;
  /** Stops listening and drops open connections. */
  close(): Promise<void>;
}

/** Probes and scrapers need one connection each. */
const MAX_CONNECTIONS = 100;

/** Time in which a request has to have come. */
const REQUEST_MILLIS = 2000;

/** After so long without a byte either way a connection is closed. */
const SILENT_MILLIS = 10_000;

/** A page: status and text. */
interface Page {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}

/**
 * Serves `/metrics`, `/livez` and `/readyz`, and nothing else, to GET and HEAD.
 *
 * @throws FarmError `failed_precondition` when the address can't be bound, `invalid_argument` when it is none.
 */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { host, port } = parseAddress(options.listen, '--admin');
  const server = createServer(
    {
      requestTimeout: REQUEST_MILLIS,
      headersTimeout: REQUEST_MILLIS,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: 8192,
    },
    (request, response) => {
      answer(request, options).then(
        (page) => send(request, response, page),
        (error: unknown) => send(request, response, { status: 500, body: `metrics failed: ${String(error)}\n` }),
      );
    },
  );
  server.setTimeout(SILENT_MILLIS);
  const open = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    // Of those that only keep a connection the oldest goes: the one that comes now may be a probe.
    const [oldest] = open;
    if (open.size > MAX_CONNECTIONS) oldest?.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('--admin', options.listen, error)));
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    address: formatAddress({ host, port: typeof bound === 'object' && bound !== null ? bound.port : port }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, { metrics, readiness }: AdminServerOptions): Promise<Page> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (path !== '/metrics' && path !== '/livez' && path !== '/readyz') {
    return { status: 404, body: 'not found; there are /metrics, /livez and /readyz\n' };
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, body: 'only GET and HEAD\n' };
  if (path === '/livez') return { status: 200, body: 'alive\n' };
  if (path === '/metrics') return { status: 200, type: metrics.contentType, body: await metrics.render() };
  const reasons = readiness();
  if (reasons.length === 0) return { status: 200, body: 'ready\n' };
  return { status: 503, body: `not ready\n${reasons.map((reason) => `- ${reason}\n`).join('')}` };
}

function send(request: IncomingMessage, response: ServerResponse, page: Page): void {
  response.writeHead(page.status, {
    'content-type': page.type ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(page.body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(page.status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : page.body);
}
