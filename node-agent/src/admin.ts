import { createServer } from 'node:http';
import { formatAddress, parseAddress } from '@clipfarm/shared/address';
import { cannotListen } from '@clipfarm/shared/rpc/server';

/** What the admin server shows. */
export interface AdminOptions {
  /** `host:port`. */
  readonly listen: string;
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  /** Why the agent can't take work now; empty when it can. */
  readonly readiness: () => readonly string[];
}

/** An admin server that listens. */
export interface AdminServer {
  /** Bound `host:port`. */
  readonly address: string;
  close(): Promise<void>;
}

interface Page {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}

/**
 * Serves `/metrics`, `/livez` and `/readyz`, and nothing else, to GET and HEAD.
 *
 * @throws FarmError `failed_precondition` when the address can't be bound.
 */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { host, port } = parseAddress(options.listen, '--admin');
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, async (request, response) => {
    const reading = request.method === 'GET' || request.method === 'HEAD';
    const found: Page = reading ? await page(request.url ?? '', options) : { status: 405, body: 'only GET and HEAD\n' };
    response.writeHead(found.status, {
      'content-type': found.type ?? 'text/plain; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    response.end(request.method === 'HEAD' ? undefined : found.body);
  });
  server.maxConnections = 100;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('--admin', options.listen, error)));
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    address: formatAddress({ host, port: typeof bound === 'object' && bound !== null ? bound.port : port }),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function page(url: string, { metrics, readiness }: AdminOptions): Promise<Page> {
  switch (url.split('?', 1)[0]) {
    case '/livez':
      return { status: 200, body: 'alive\n' };
    case '/readyz': {
      const reasons = readiness();
      if (reasons.length === 0) return { status: 200, body: 'ready\n' };
      return { status: 503, body: `not ready\n${reasons.map((reason) => `- ${reason}\n`).join('')}` };
    }
    case '/metrics':
      return { status: 200, type: metrics.contentType, body: await metrics.render() };
    default:
      return { status: 404, body: 'not found; there are /metrics, /livez and /readyz\n' };
  }
}
