import { FarmError } from '@clipfarm/shared/errors';

/** Names of everything that a farm keeps in JetStream. */
export interface JetStreamNames {
  /** JetStream stream that holds all events. */
  readonly events: string;
  /** Subjects of that stream that carry events. */
  readonly eventSubjects: string;
  /** Subject on which each new term is recorded. */
  readonly terms: string;
  /** Key-value bucket of snapshots. */
  readonly snapshots: string;
  /** Key-value bucket of the leader's lease. */
  readonly leader: string;
  /** Subject of a stream of the journal. */
  subjectOf(stream: string): string;
  /** Stream of the journal that a subject stands for; null for another kind of subject. */
  streamOf(subject: string): string | null;
}

/**
 * Names for a farm.
 *
 * @param prefix tells farms on the same NATS apart.
 * @throws FarmError `invalid_argument` for a malformed prefix.
 */
export function jetStreamNames(prefix: string): JetStreamNames {
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(prefix)) {
    const accepted = 'accepted are 1 to 32 lower-case letters, digits and -, beginning with a letter';
    throw new FarmError('invalid_argument', `prefix: ${JSON.stringify(prefix)}; ${accepted}`, { field: 'prefix' });
  }
  const base = `${prefix}.events.`;
  const terms = `${prefix}.terms`;
  const upper = prefix.toUpperCase();
  return {
    events: `${upper}_EVENTS`,
    eventSubjects: `${base}*`,
    terms,
    snapshots: `${upper}_SNAPSHOTS`,
    leader: `${upper}_LEADER`,
    subjectOf: (stream) => base + encodeToken(stream),
    streamOf: (subject) => (subject.startsWith(base) ? decodeToken(subject.slice(base.length)) : null),
  };
}

/** The JetStream stream behind a key-value bucket. */
export function bucketStream(bucket: string): string {
  return `KV_${bucket}`;
}

/**
 * A stream's name as one token of a subject and as a key: `.` separates tokens, and keys accept neither `:` nor `%`, so what
 * is not a letter, digit, `_` or `-` becomes `=` and two hexadecimal digits.
 */
export function encodeToken(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]/g, (char) => `=${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function decodeToken(token: string): string {
  return token.replace(/=([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
