import { PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { ArtifactContent, PresignedPut } from './artifact-store.ts';
import type { S3Place } from './s3-client.ts';
import { SHA256_METADATA } from './s3-read.ts';
import { base64Of } from './s3-write.ts';

/**
 * A request that stores exactly this content under the key. Size and SHA-256 are headers that the signature covers, so
 * that S3 takes nothing else. Storing the same again is fine, which an agent does that lost the answer.
 *
 * @param validity `now` in milliseconds since 1970, and how many seconds the request works from then on.
 * @throws what the client throws when it finds no credentials
 */
export async function presignPut(
  { client, bucket, prefix }: S3Place,
  key: string,
  { sha256, bytes }: ArtifactContent,
  { now, seconds }: { readonly now: number; readonly seconds: number },
): Promise<PresignedPut> {
  const ChecksumSHA256 = base64Of(sha256);
  const command = new PutObjectCommand({
    ...{ Bucket: bucket, Key: prefix + key, ContentLength: bytes, ChecksumSHA256 },
    Metadata: { [SHA256_METADATA]: sha256 },
  });
  const headers = {
    'content-length': String(bytes),
    'x-amz-checksum-sha256': ChecksumSHA256,
    [`x-amz-meta-${SHA256_METADATA}`]: sha256,
  };
  const url = await getSignedUrl(client, command, {
    expiresIn: seconds,
    signingDate: new Date(now + client.config.systemClockOffset),
    // As headers, not as part of the URL, where not every server looks for them.
    unhoistableHeaders: new Set(Object.keys(headers)),
  });
  return { url, headers, validSeconds: seconds };
}
