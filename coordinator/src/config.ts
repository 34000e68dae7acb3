import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { FarmError } from '@clipfarm/shared/errors';
import { logLevels } from '@clipfarm/shared/log';
import { z } from 'zod';
import { ARTIFACT_STORE_FORMS } from './artifacts/store-url.ts';

/** Help of the coordinator. */
export const USAGE = `Usage: clipfarm coordinator [options]

Runs the coordinator: accepts jobs, schedules clips onto node agents, stitches the video.

  --listen HOST:PORT        gRPC for users and agents (default 127.0.0.1:7400; port 0 lets the system choose)
  --admin HOST:PORT         /metrics, /livez, /readyz (default 127.0.0.1:7401)
  --advertise HOST:PORT     where others reach this coordinator when it leads (default: the listen address)
  --data-dir DIR            journal and artifacts (default $CLIPFARM_HOME/coordinator or ~/.clipfarm/coordinator)
  --journal WHERE           where events are kept: "sqlite" (in the data directory; one coordinator; the default) or
                            nats://HOST[:PORT][,HOST...] (NATS JetStream; several coordinators, one of which leads)
  --nats-prefix NAME        tells farms on the same NATS apart (default clipfarm)
  --nats-credentials FILE   NATS user as nsc writes it
  --nats-ca FILE, --nats-cert FILE, --nats-key FILE
                            PEM files for TLS to NATS
  --nats-monitor URL[,URL]  HTTP monitoring of the servers; with it the start checks that every write is synced
  --nats-replicas N         copies of everything (default 3 in a cluster, 1 otherwise)
  --nats-allow-unsafe       go on where acknowledged events could be lost
  --election-millis N       lifetime of the lead without renewal, with NATS (default 5000; fixed when first opened)
  --artifacts WHERE         where files are kept; several coordinators must share it (default DIR/artifacts):
                            ${ARTIFACT_STORE_FORMS}
  --webhook-url URL         where to post what happens to jobs; up to eight times (docs/events.md)
  --webhook-secret-file FILE
                            what signs: one file for all URLs, or one for each in the same order
  --webhook-allow-private   also post to this machine and to private networks
  --token-file FILE         bearer token that every caller must present
  --tls-cert FILE, --tls-key FILE, --tls-client-ca FILE
                            PEM files; beyond loopback TLS and a token or client certificates are required
  --insecure                listen beyond loopback without them (never on a network that others use)
  --ffmpeg FILE, --ffprobe FILE
                            where FFmpeg is, if not on the PATH
  --heartbeat-millis N      between an agent's signs of life (default 1000)
  --lease-millis N          silence after which a node's leases are given to others (default 5000)
  --grace-millis N          that agents go on rendering without contact (default 600000)
  --hang-seconds N          least time without progress that counts as a hang (default 30)
  --ready-file FILE         written as JSON {"listen", "admin"} once the coordinator is ready
  --log-level LEVEL         ${logLevels.join(', ')} (default info)
  --log-pretty              readable lines instead of JSON
  --help

Example: clipfarm coordinator --data-dir /var/lib/clipfarm --listen 127.0.0.1:7400
`;

const millis = (min: number, max: number) => z.coerce.number().int().min(min).max(max);

const schema = z
  .strictObject({
    listen: z.string().default('127.0.0.1:7400'),
    admin: z.string().default('127.0.0.1:7401'),
    advertise: z.string().optional(),
    'data-dir': z.string().min(1),
    journal: z
      .string()
      .regex(/^(sqlite|nats:\/\/\S+)$/, 'must be "sqlite" or nats://HOST[:PORT][,HOST...]')
      .default('sqlite'),
    'nats-prefix': z.string().default('clipfarm'),
    'nats-credentials': z.string().optional(),
    'nats-ca': z.string().optional(),
    'nats-cert': z.string().optional(),
    'nats-key': z.string().optional(),
    'nats-monitor': z.string().optional(),
    'nats-replicas': z.coerce.number().int().min(1).max(5).optional(),
    'nats-allow-unsafe': z.boolean().default(false),
    'election-millis': millis(1000, 60_000).default(5000),
    artifacts: z.string().optional(),
    'webhook-url': z.array(z.string()).default([]),
    'webhook-secret-file': z.array(z.string()).default([]),
    'webhook-allow-private': z.boolean().default(false),
    'token-file': z.string().optional(),
    'tls-cert': z.string().optional(),
    'tls-key': z.string().optional(),
    'tls-client-ca': z.string().optional(),
    insecure: z.boolean().default(false),
    ffmpeg: z.string().optional(),
    ffprobe: z.string().optional(),
    'heartbeat-millis': millis(50, 60_000).default(1000),
    'lease-millis': millis(250, 600_000).default(5000),
    'grace-millis': millis(0, 24 * 3_600_000).default(600_000),
    'hang-seconds': z.coerce.number().min(1).max(86_400).default(30),
    'ready-file': z.string().optional(),
    'log-level': z.enum(logLevels).default('info'),
    'log-pretty': z.boolean().default(false),
  })
  .refine((c) => c['lease-millis'] >= 3 * c['heartbeat-millis'], {
    path: ['lease-millis'],
    message: 'must be at least three times heartbeat-millis, or one late heartbeat costs a lease',
  });

/** Settings of the coordinator, flag by flag. */
export type CoordinatorConfig = z.infer<typeof schema>;

const flags = [
  'listen',
  'admin',
  'advertise',
  'data-dir',
  'journal',
  'nats-prefix',
  'nats-credentials',
  'nats-ca',
  'nats-cert',
  'nats-key',
  'nats-monitor',
  'nats-replicas',
  'election-millis',
  'artifacts',
  'token-file',
  'tls-cert',
  'tls-key',
  'tls-client-ca',
  'ffmpeg',
  'ffprobe',
] as const;
const valueFlags = [
  ...flags,
  'heartbeat-millis',
  'lease-millis',
  'grace-millis',
  'hang-seconds',
  'ready-file',
  'log-level',
] as const;

/**
 * The settings from flags and environment; null when help was asked for.
 *
 * @throws FarmError `invalid_argument` naming the flag, its value and what is accepted
 */
export function coordinatorConfig(argv: readonly string[], env: NodeJS.ProcessEnv): CoordinatorConfig | null {
  const options = Object.fromEntries(valueFlags.map((flag) => [flag, { type: 'string' as const }]));
  const booleans = {
    insecure: { type: 'boolean' },
    'nats-allow-unsafe': { type: 'boolean' },
    'webhook-allow-private': { type: 'boolean' },
    'webhook-url': { type: 'string', multiple: true },
    'webhook-secret-file': { type: 'string', multiple: true },
    'log-pretty': { type: 'boolean' },
    help: { type: 'boolean' },
  } as const;
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({
      args: [...argv],
      options: { ...options, ...booleans },
      strict: true,
      allowPositionals: false,
    }));
  } catch (error) {
    const hint = 'clipfarm coordinator --help';
    throw new FarmError('invalid_argument', error instanceof Error ? error.message : String(error), { hint });
  }
  const { help, ...given } = values;
  if (help === true) return null;
  const home = env.CLIPFARM_HOME ?? join(homedir(), '.clipfarm');
  const parsed = schema.safeParse({ 'data-dir': join(home, 'coordinator'), ...given });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = `--${issue?.path.join('.') ?? ''}`;
  const value = given[String(issue?.path[0])];
  throw new FarmError('invalid_argument', `${field}: ${value === undefined ? '' : `"${value}": `}${issue?.message}`, {
    field,
  });
}
