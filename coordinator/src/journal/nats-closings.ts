import { type NatsConnection, RequestStrategy } from 'nats';
import { z } from 'zod';

/** A connection as its server knows it. */
export interface NatsClient {
  readonly serverId: string;
  readonly clientId: number;
}

/** One monitoring address, and all servers together, get this long. */
const MONITOR_MILLIS = 2000;

/** Asks every server about connections of the own account. Most users need leave for it; the first account, `$G`, hears nothing. */
export const CLOSINGS_SUBJECT = '$SYS.REQ.ACCOUNT.PING.CONNZ';

/** A state of connections, in requests. */
const CLOSED = 1;

const closings = z.object({
  server_id: z.string(),
  connections: z.array(z.object({ cid: z.number(), reason: z.string().optional() })),
});

/**
 * Why a server closed a connection. It does not tell the client: one that reads too slowly, for example, takes no more words.
 * The monitoring port does; {@link askClosingReason} needs none.
 *
 * @param monitors HTTP monitoring addresses, among them that server's
 * @returns the reason in the server's words, such as `Slow Consumer (Write Deadline)`; null when none is known. Never throws.
 */
export async function closingReason(monitors: readonly string[], client: NatsClient): Promise<string | null> {
  for (const monitor of monitors) {
    try {
      const url = new URL(`/connz?state=closed&cid=${client.clientId}`, monitor);
      const response = await fetch(url, { signal: AbortSignal.timeout(MONITOR_MILLIS) });
      const reason = reasonIn(await response.json(), client);
      if (reason !== null) return reason;
    } catch {
      // Another one may be that server's.
    }
  }
  return null;
}

/**
 * Why a server closed a connection, as the servers tell the users of its account.
 *
 * @param connection one that is there now, of the same user.
 * @returns the reason in the server's words; null when none is known, or this user may not ask. Never throws.
 */
export async function askClosingReason(
  connection: Pick<NatsConnection, 'requestMany'>,
  client: NatsClient,
): Promise<string | null> {
  try {
    const query = JSON.stringify({ cid: client.clientId, state: CLOSED });
    const options = { strategy: RequestStrategy.Timer, maxWait: MONITOR_MILLIS };
    for await (const answer of await connection.requestMany(CLOSINGS_SUBJECT, query, options)) {
      const parsed = z.object({ data: z.unknown() }).safeParse(answer.json());
      const reason = parsed.success ? reasonIn(parsed.data.data, client) : null;
      if (reason !== null) return reason;
    }
  } catch {
    // Not allowed, or the connection is gone again.
  }
  return null;
}

function reasonIn(answer: unknown, { serverId, clientId }: NatsClient): string | null {
  const parsed = closings.safeParse(answer);
  if (!parsed.success || parsed.data.server_id !== serverId) return null;
  return parsed.data.connections.find(({ cid }) => cid === clientId)?.reason ?? null;
}
