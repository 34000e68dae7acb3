import { z } from 'zod';

/** A connection as its server knows it. */
export interface NatsClient {
  readonly serverId: string;
  readonly clientId: number;
}

/** One monitoring address gets this long. */
const MONITOR_MILLIS = 2000;

const closings = z.object({
  server_id: z.string(),
  connections: z.array(z.object({ cid: z.number(), reason: z.string().optional() })),
});

/**
 * Why a server closed a connection. It does not tell the client: one that reads too slowly, for example, takes no more words.
 * The monitoring port does.
 *
 * @param monitors HTTP monitoring addresses, among them that server's
 * @returns the reason in the server's words, such as `Slow Consumer (Write Deadline)`; null when none is known. Never throws.
 */
export async function closingReason(monitors: readonly string[], client: NatsClient): Promise<string | null> {
  for (const monitor of monitors) {
    try {
      const url = new URL(`/connz?state=closed&cid=${client.clientId}`, monitor);
      const response = await fetch(url, { signal: AbortSignal.timeout(MONITOR_MILLIS) });
      const { server_id, connections } = closings.parse(await response.json());
      const closed = server_id === client.serverId ? connections.find(({ cid }) => cid === client.clientId) : undefined;
      if (closed?.reason) return closed.reason;
    } catch {
      // Another one may be that server's.
    }
  }
  return null;
}
