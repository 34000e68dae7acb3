import { S3Client } from '@aws-sdk/client-s3';
import type { Secret } from '@clipfarm/shared/secret';

/** Where a bucket is. */
export interface S3Location {
  /** Base URL of a server other than Amazon's. */
  readonly endpoint?: string;
  /** For example `eu-central-1`; servers other than Amazon's often take any. */
  readonly region: string;
  readonly bucket: string;
  /** Keys of this store begin with `<prefix>/`. @default none */
  readonly prefix?: string;
  /** The bucket is part of the path, not of the host name. @default true with an endpoint, false without */
  readonly forcePathStyle?: boolean;
}

/** Who asks. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
  /** Of temporary credentials. */
  readonly sessionToken?: Secret;
}

/** A bucket, or the part of it below a prefix, and how to reach it. */
export interface S3Place {
  readonly client: S3Client;
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
}

/** Tries of a request, each after a longer wait, while the server fails or does not answer. */
const ATTEMPTS = 5;

/** Milliseconds for a connection to come about. */
const CONNECT_MILLIS = 5000;

/** Milliseconds without a byte in either direction after which a request counts as failed. */
const IDLE_MILLIS = 30_000;

/**
 * A client for one place. Nothing is sent yet.
 *
 * @param credentials without them the standard chain is asked: environment, shared files, web identity, container and
 *   instance roles.
 */
export function s3Place(location: S3Location, credentials?: S3Credentials): S3Place {
  const { endpoint, region, bucket, prefix, forcePathStyle = endpoint !== undefined } = location;
  const client = new S3Client({
    region,
    forcePathStyle,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials: async () => revealed(credentials) }),
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_MILLIS, socketTimeout: IDLE_MILLIS },
    // Whole files are checked against their SHA-256, and parts have no checksum to check.
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  return { client, bucket, prefix: prefix === undefined ? '' : `${prefix}/` };
}

function revealed({ accessKeyId, secretAccessKey, sessionToken }: S3Credentials) {
  return {
    accessKeyId,
    secretAccessKey: secretAccessKey.reveal(),
    ...(sessionToken === undefined ? {} : { sessionToken: sessionToken.reveal() }),
  };
}
