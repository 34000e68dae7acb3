import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseAddress } from '@clipfarm/shared/address';
import { FarmError } from '@clipfarm/shared/errors';
import { flagProblem, parseFlags } from '@clipfarm/shared/flags';
import { logLevels } from '@clipfarm/shared/log';
import { z } from 'zod';
import { ARTIFACT_STORE_FORMS } from './artifacts/store-url.ts';

/** Help of the coordinator. */
export const USAGE = `Usage: clipfarm coordinator [options]

Runs the coordinator: accepts jobs, schedules clips onto node agents, stitches the video.

  --listen HOST:PORT        gRPC for users and agents (default 127.0.0.1:7400; port 0 lets the system choose)
  --admin HOST:PORT         /metrics, /livez, /readyz (default 127.0.0.1:7401)
  --advertise HOST:PORT     where others reach this coordinator when it leads (default: the listen address)
  --data-dir DIR            journal and artifacts, unless they are elsewhere; one coordinator works in it
                            (default $CLIPFARM_HOME/coordinator or ~/.clipfarm/coordinator)
  --journal WHERE           where events are kept: "sqlite" (in the data directory; one coordinator; the default) or
                            nats://HOST[:PORT][,HOST...] (NATS JetStream; several coordinators, one of which leads)
  --nats-prefix NAME        tells farms on the same NATS apart (default clipfarm)
  --nats-credentials FILE   NATS user as nsc writes it
  --nats-ca FILE, --nats-cert FILE, --nats-key FILE
                            PEM files for TLS to NATS
  --nats-monitor URL[,URL]  HTTP monitoring of the servers; with it the start checks that every write is synced
  --nats-replicas N         copies of everything (default 3 in a cluster, 1 otherwise)
  --check-journal           look whether that NATS can keep the journal safely, say so as JSON, and end
  --nats-allow-unsafe       go on where acknowledged events could be lost
  --election-millis N       lifetime of the lead without renewal, with NATS (default 4000; fixed when first opened)
  --artifacts WHERE         where files are kept; several coordinators must share it (default DIR/artifacts):
                            ${ARTIFACT_STORE_FORMS}
  --retain-hours N          finished jobs are removed this long after their end, with their videos and everything that only
                            they needed (default 720, which is 30 days; "never" keeps them)
  --retain-inputs-hours N   the same for uploads that no job needs (default 24)
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

const HELP = 'clipfarm coordinator --help';

const KEPT_HOURS = 'a number of hours above 0, or "never"';

const HANG_SECONDS = 'a number of seconds, 1 to 86400';

/** How long something is kept, in hours; null for ever. */
const hours = (usual: number) =>
  z
    .string()
    .regex(/^(never|\d{1,6}(\.\d{1,6})?)$/, KEPT_HOURS)
    .transform((text) => (text === 'never' ? null : Number(text)))
    .refine((n) => n !== 0, KEPT_HOURS)
    .default(usual);

/** A whole number within bounds, told in our own words. */
const whole = (min: number, max: number) => {
  const accepted = `a whole number of ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,15}$/, accepted)
    .transform(Number)
    .refine((n) => n >= min && n <= max, accepted);
};

const path = z.string().refine((text) => text !== '', 'a path');

const schema = z.strictObject({
  listen: z.string().default('127.0.0.1:7400'),
  admin: z.string().default('127.0.0.1:7401'),
  advertise: z.string().optional(),
  'data-dir': path,
  journal: z
    .string()
    .regex(/^(sqlite|nats:\/\/\S+)$/, '"sqlite" or nats://HOST[:PORT][,HOST...]')
    .default('sqlite'),
  'nats-prefix': z.string().default('clipfarm'),
  'nats-credentials': path.optional(),
  'nats-ca': path.optional(),
  'nats-cert': path.optional(),
  'nats-key': path.optional(),
  'nats-monitor': z.string().optional(),
  'nats-replicas': whole(1, 5).optional(),
  'check-journal': z.boolean().default(false),
  'nats-allow-unsafe': z.boolean().default(false),
  'election-millis': whole(1000, 60_000).default(4000),
  artifacts: z.string().optional(),
  'webhook-url': z.array(z.string()).default([]),
  'webhook-secret-file': z.array(z.string()).default([]),
  'webhook-allow-private': z.boolean().default(false),
  'token-file': path.optional(),
  'tls-cert': path.optional(),
  'tls-key': path.optional(),
  'tls-client-ca': path.optional(),
  insecure: z.boolean().default(false),
  ffmpeg: path.optional(),
  ffprobe: path.optional(),
  'heartbeat-millis': whole(50, 60_000).default(1000),
  'lease-millis': whole(250, 600_000).default(5000),
  'grace-millis': whole(0, 24 * 3_600_000).default(600_000),
  'hang-seconds': z
    .string()
    .regex(/^\d{1,5}(\.\d{1,6})?$/, HANG_SECONDS)
    .transform(Number)
    .refine((n) => n >= 1 && n <= 86_400, HANG_SECONDS)
    .default(30),
  'retain-hours': hours(720),
  'retain-inputs-hours': hours(24),
  'ready-file': path.optional(),
  'log-level': z.enum(logLevels, `one of ${logLevels.join(', ')}`).default('info'),
  'log-pretty': z.boolean().default(false),
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
  'retain-hours',
  'retain-inputs-hours',
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
    'check-journal': { type: 'boolean' },
    'nats-allow-unsafe': { type: 'boolean' },
    'webhook-allow-private': { type: 'boolean' },
    'webhook-url': { type: 'string', multiple: true },
    'webhook-secret-file': { type: 'string', multiple: true },
    'log-pretty': { type: 'boolean' },
    help: { type: 'boolean' },
  } as const;
  const values: Readonly<Record<string, unknown>> = parseFlags(argv, { ...options, ...booleans }, HELP);
  const { help, ...given } = values;
  if (help === true) return null;
  const home = env.CLIPFARM_HOME ?? join(homedir(), '.clipfarm');
  const parsed = schema.safeParse({ 'data-dir': join(home, 'coordinator'), ...given });
  if (!parsed.success) throw flagProblem(parsed.error, given, HELP);
  const config = parsed.data;
  const [heartbeat, lease] = [config['heartbeat-millis'], config['lease-millis']];
  if (lease < 3 * heartbeat) {
    const accepted = `at least three times --heartbeat-millis (${heartbeat}), or one late heartbeat costs a lease`;
    throw new FarmError('invalid_argument', `--lease-millis is ${lease}; accepted: ${accepted}`, {
      field: '--lease-millis',
      hint: HELP,
    });
  }
  // Known now, not when the first agent or follower needs it.
  if (config.advertise !== undefined) parseAddress(config.advertise, '--advertise');
  parseAddress(config.admin, '--admin');
  const forNats = Object.keys(given).find((flag) => flag.startsWith('nats-') || flag === 'election-millis');
  if (config.journal === 'sqlite' && config['check-journal']) {
    throw new FarmError('invalid_argument', '--check-journal: needs a journal in NATS', {
      field: '--check-journal',
      hint: 'Add --journal nats://HOST[:PORT][,HOST...].',
    });
  }
  if (config.journal === 'sqlite' && forNats !== undefined) {
    throw new FarmError('invalid_argument', `--${forNats}: has no effect with --journal sqlite`, {
      field: `--${forNats}`,
      hint: 'Add --journal nats://HOST, or leave it out.',
    });
  }
  return config;
}
