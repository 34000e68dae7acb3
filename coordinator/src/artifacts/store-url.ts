import { FarmError } from '@clipfarm/shared/errors';
import { z } from 'zod';
import type { S3Location } from './s3-client.ts';

/** Where artifacts are kept. */
export type ArtifactStoreOptions =
  | { readonly kind: 'directory'; readonly path: string }
  | ({
      readonly kind: 's3';
      /** Agents upload chunks straight to S3. @default true */
      readonly directUploads?: boolean;
      /** Makes sure that the bucket drops unfinished multipart uploads after so many days. @default left as it is */
      readonly cleanUploadsAfterDays?: number;
    } & S3Location);

/** What is accepted, for messages and help. */
export const ARTIFACT_STORE_FORMS =
  'DIR or s3://BUCKET[/PREFIX]?region=R[&endpoint=URL][&path-style=true|false][&direct-uploads=false][&clean-uploads-days=N]';

const MAX_PREFIX = 500;

// The rules of Amazon's user guide, "Bucket naming rules", as far as a typing error would break them.
const bucket = z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, {
  error: 'must be 3 to 63 lower-case letters, digits, dots and hyphens',
});

const prefix = z
  .string()
  .max(MAX_PREFIX)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/, {
    error: 'must be parts of letters, digits and . _ - joined by /, each with a letter or digit first',
  });

const boolean = z.enum(['true', 'false']).transform((value) => value === 'true');

const endpoint = z.string().refine(isOrigin, {
  error: 'must be http://HOST[:PORT] or https://HOST[:PORT], without user, path or query',
});

/** Parameters as they stand in the URL. */
interface Given {
  [name: string]: string | undefined;
  prefix?: string;
  region?: string;
  endpoint?: string;
}

const parameters = z
  .strictObject({
    bucket,
    prefix: prefix.optional(),
    region: z.string().regex(/^[a-z0-9-]{1,40}$/, { error: 'must be a name such as eu-central-1' }),
    endpoint: endpoint.optional(),
    'path-style': boolean.optional(),
    'direct-uploads': boolean.optional(),
    'clean-uploads-days': z.coerce.number().int().min(1).max(365).optional(),
  })
  .transform((p) => ({
    kind: 's3' as const,
    ...{ bucket: p.bucket, region: p.region },
    ...(p.prefix === undefined ? {} : { prefix: p.prefix }),
    ...(p.endpoint === undefined ? {} : { endpoint: p.endpoint }),
    ...(p['path-style'] === undefined ? {} : { forcePathStyle: p['path-style'] }),
    ...(p['direct-uploads'] === undefined ? {} : { directUploads: p['direct-uploads'] }),
    ...(p['clean-uploads-days'] === undefined ? {} : { cleanUploadsAfterDays: p['clean-uploads-days'] }),
  }));

/**
 * Where artifacts are kept, from a path or a URL such as `s3://bucket/prefix?region=eu-central-1`. Credentials are not
 * part of it. With an endpoint the region may be left out.
 *
 * @throws FarmError `invalid_argument` naming the part, its value and what is accepted
 */
export function artifactStoreFromUrl(text: string): ArtifactStoreOptions {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text)?.[1];
  if (scheme === undefined) {
    if (text === '' || text.includes('\0')) throw refused('path', text, 'must be a path');
    if (/^s3:/i.test(text)) throw refused('path', text, 'lacks the // of s3://BUCKET');
    return { kind: 'directory', path: text };
  }
  if (scheme !== 's3') throw refused('scheme', scheme, 'must be s3');
  const url = URL.parse(text);
  // What stands before an @ may be a secret key, so that the text isn't repeated.
  if (url === null || url.username !== '' || url.password !== '' || text.includes('@')) {
    throw new FarmError('invalid_argument', '--artifacts: the URL must hold no credentials and be well formed', {
      field: '--artifacts',
      hint: 'Credentials come from the environment, a shared profile or a role of this host.',
    });
  }
  if (url.hash !== '' || url.port !== '') throw refused('bucket', url.host + url.hash, 'must be a bucket name alone');
  const names = [...url.searchParams.keys()];
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw refused(twice, url.searchParams.getAll(twice).join(', '), 'must be given once');
  const given: Given = { ...Object.fromEntries(url.searchParams), bucket: url.hostname };
  for (const name of ['bucket', 'prefix']) {
    if (names.includes(name)) throw refused(name, url.searchParams.get(name) ?? '', 'is part of the path');
  }
  const path = url.pathname.replace(/^\//, '').replace(/\/$/, '');
  if (path !== '') given.prefix = path;
  // Servers other than Amazon's often have no regions; this is what they call theirs then.
  if (given.endpoint !== undefined) given.region ??= 'us-east-1';
  const parsed = parameters.safeParse(given);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const name = issue?.code === 'unrecognized_keys' ? (issue.keys[0] ?? '') : String(issue?.path[0]);
  const value = given[name];
  throw refused(name, value, value === undefined ? 'is missing' : (issue?.message ?? 'is not accepted'));
}

function refused(part: string, value: string | undefined, why: string): FarmError {
  const shown = value === undefined ? '' : ` "${value.slice(0, 100)}"`;
  return new FarmError('invalid_argument', `--artifacts: ${part}${shown} ${why}`, {
    field: '--artifacts',
    hint: `Accepted is ${ARTIFACT_STORE_FORMS}.`,
  });
}

function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && (text === url.origin || text === `${url.origin}/`);
}
