import { FarmError } from '@clipfarm/shared/errors';
import { resolveSettings } from '@clipfarm/shared/model/settings';
import type { JobDefinition } from '../core/job-model.ts';
import type { CheckedSpec } from './job-spec.ts';

/**
 * Makes sure that an order given under a known idempotency key is for the same video as the job of that key: whoever asks
 * for another one would be given somebody's older video in its place. Name, priority and deadline may differ.
 *
 * @throws FarmError `conflict` naming what differs
 */
export function checkSameOrder(job: JobDefinition, order: CheckedSpec): void {
  const { settings } = resolveSettings(order.settings);
  const same: Readonly<Record<string, boolean>> = {
    image: job.imageSha256 === order.imageSha256,
    audio: job.audioSha256 === order.audioSha256,
    prompt: job.prompt === order.prompt,
    preset: job.preset === settings.preset,
    size: job.size === settings.size,
    num_clip: job.numClip === order.settings.numClip,
    sample_steps: job.sampleSteps === settings.sampleSteps,
    // One that was not asked for was drawn.
    base_seed: settings.baseSeed === undefined || job.baseSeed === settings.baseSeed,
    anchor: job.anchorMode === settings.anchor,
  };
  const differ = Object.keys(same).filter((field) => same[field] === false);
  if (differ.length === 0) return;
  throw new FarmError(
    'conflict',
    `idempotency_key: it stands for job ${job.jobId}, which has another ${differ.join(', ')}; accepted: the same order again, or another key`,
    { field: 'idempotency_key' },
  );
}
