import {
  GetBucketLifecycleConfigurationCommand,
  type GetBucketLifecycleConfigurationOutput,
  type LifecycleRule,
  PutBucketLifecycleConfigurationCommand,
} from '@aws-sdk/client-s3';
import { FarmError } from '@clipfarm/shared/errors';
import type { S3Place } from './s3-client.ts';
import { nameOf, s3Error } from './s3-error.ts';

const RULE = 'clipfarm-incomplete-uploads';

/**
 * Makes sure that the bucket drops parts of multipart uploads that nobody finished, which are invisible and cost all the
 * same: an enabled rule that covers the prefix is enough; otherwise one is added and the others are kept.
 *
 * @throws FarmError `failed_precondition` when the server has no such rules or doesn't let this client set them
 */
export async function ensureUploadCleanup({ client, bucket, prefix }: S3Place, days: number): Promise<void> {
  try {
    const present = await client
      .send(new GetBucketLifecycleConfigurationCommand({ Bucket: bucket }))
      .catch((error: unknown): GetBucketLifecycleConfigurationOutput => {
        if (nameOf(error) === 'NoSuchLifecycleConfiguration') return {};
        throw error;
      });
    const rules = present.Rules ?? [];
    if (rules.some((rule) => covers(rule, prefix, days))) return;
    const rule: LifecycleRule = {
      ...{ ID: RULE, Status: 'Enabled', Filter: { Prefix: prefix } },
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: days },
    };
    const { TransitionDefaultMinimumObjectSize } = present;
    await client.send(
      new PutBucketLifecycleConfigurationCommand({
        Bucket: bucket,
        LifecycleConfiguration: { Rules: [...rules.filter(({ ID }) => ID !== RULE), rule] },
        // A put that leaves it out resets it.
        ...(TransitionDefaultMinimumObjectSize === undefined ? {} : { TransitionDefaultMinimumObjectSize }),
      }),
    );
  } catch (cause) {
    const error = s3Error(cause, `set the lifecycle of bucket ${bucket}`, bucket);
    if (error.code !== 'failed_precondition') throw error;
    const hint =
      'Allow s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration, or leave clean-uploads-days out.';
    throw new FarmError(error.code, error.message, { hint });
  }
}

/** Whether a rule that others may have made does the work already. */
function covers(rule: LifecycleRule, prefix: string, days: number): boolean {
  const after = rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation;
  if (rule.Status !== 'Enabled' || after === undefined || after > days) return false;
  const { Prefix, And, Tag } = rule.Filter ?? {};
  // Rules of the older form have the prefix beside the filter.
  return And === undefined && Tag === undefined && prefix.startsWith(Prefix ?? rule.Prefix ?? '');
}
