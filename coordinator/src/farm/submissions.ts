import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';
import type { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Ffmpeg } from '@clipfarm/shared/media/ffmpeg';
import {
  CLIP_FRAMES,
  DELIVERY_SAMPLE_RATE,
  framesForSamples,
  MODEL_SAMPLE_RATE,
  modelAudioSamples,
} from '@clipfarm/shared/model/clip';
import { promptNotes } from '@clipfarm/shared/model/prompt';
import { resolveClips, resolveSettings } from '@clipfarm/shared/model/settings';
import { checkImage, checkPicture, MAX_UNITS_TPP } from '@clipfarm/shared/model/size';
import type { ArtifactStore } from '../artifacts/artifact-store.ts';
import type { ContentRef, JobDefinition, JobState } from '../core/job-model.ts';
import { modelWav } from '../media/ingest.ts';
import { prepareReference, probeImage } from '../media/reference.ts';
import { artifactKeys } from './artifact-keys.ts';
import type { AudioLibrary, DecodedAudio } from './audio-library.ts';
import type { Fit, Fleet } from './fleet.ts';
import type { InputKeeper } from './input-keeper.ts';
import { type CheckedSpec, checkSpec } from './job-spec.ts';
import type { Jobs } from './jobs.ts';
import { checkSameOrder } from './same-order.ts';
import type { UploadRoom } from './upload-room.ts';
import { WorkQueue } from './work-queue.ts';

/** A job that was checked and whose inputs are not prepared yet. */
type Draft = Omit<JobDefinition, 'reference' | 'modelAudio'>;

/** What `plan` answers. */
export interface Planned {
  readonly definition: JobDefinition;
  readonly priority: number;
  readonly fits: readonly Fit[];
}

/** Of the model's sound: 16 bits. */
const BYTES_PER_SAMPLE = 2;

const NOT_PREPARED: ContentRef = { sha256: '', bytes: 0 };

/** Turns what a user asks for into a job: checks form, media, settings and fit, before anything is rendered. */
export class Submissions {
  readonly #jobs: Jobs;
  readonly #fleet: Fleet;
  readonly #store: ArtifactStore;
  readonly #inputs: InputKeeper;
  readonly #audio: AudioLibrary;
  readonly #ffmpeg: Ffmpeg;
  readonly #room: Pick<UploadRoom, 'hold'>;
  readonly #queue: Pick<WorkQueue, 'run'>;
  /** One picture at a time, because the largest takes 1.9 GB while it is prepared. */
  readonly #pictures = new WorkQueue({ all: 1, notUrgent: 1 });
  readonly #drawSeed: () => number;

  /** @param drawSeed a base seed for jobs that bring none */
  constructor(parts: {
    jobs: Jobs;
    fleet: Fleet;
    store: ArtifactStore;
    inputs: InputKeeper;
    audio: AudioLibrary;
    ffmpeg: Ffmpeg;
    room: Pick<UploadRoom, 'hold'>;
    queue: Pick<WorkQueue, 'run'>;
    drawSeed: () => number;
  }) {
    this.#jobs = parts.jobs;
    this.#fleet = parts.fleet;
    this.#store = parts.store;
    this.#inputs = parts.inputs;
    this.#audio = parts.audio;
    this.#ffmpeg = parts.ffmpeg;
    this.#room = parts.room;
    this.#queue = parts.queue;
    this.#drawSeed = parts.drawSeed;
  }

  /**
   * Checks a job and says what would happen.
   *
   * @param signal ends it, when nobody waits for the answer any more
   * @throws FarmError naming the field that can't be accepted; the signal's reason
   */
  async plan(spec: JobSpec | undefined, signal: AbortSignal): Promise<Planned> {
    const checked = checkSpec(spec);
    const draft = await this.#draft(checked, { jobId: 'plan' }, signal);
    const definition = { ...draft, reference: NOT_PREPARED, modelAudio: NOT_PREPARED };
    return { definition, priority: checked.priority, fits: this.#fleet.fits(definition) };
  }

  /**
   * Accepts a job durably.
   *
   * @param signal ends it while the job is not accepted; from then on it has no effect
   * @throws FarmError `failed_precondition` with the numbers when slots are known and none of them fits; `conflict` when
   * the key stands for an order of another video; otherwise as {@link plan}
   */
  async submit(
    spec: JobSpec | undefined,
    idempotencyKey: string,
    signal: AbortSignal,
  ): Promise<{ job: JobState; alreadyExisted: boolean }> {
    const checked = checkSpec(spec);
    if (idempotencyKey.length > 200) {
      throw new FarmError('invalid_argument', 'idempotency_key: at most 200 characters', { field: 'idempotency_key' });
    }
    const key = idempotencyKey === '' ? undefined : idempotencyKey;
    const known = this.#jobs.byIdempotencyKey(checked.owner, key);
    if (known) {
      checkSameOrder(known.definition, checked);
      return { job: known, alreadyExisted: true };
    }
    const ids = { jobId: randomUUID(), ...(key === undefined ? {} : { idempotencyKey: key }) };
    const draft = await this.#draft(checked, ids, signal);
    this.#refuseUnfit({ ...draft, reference: NOT_PREPARED, modelAudio: NOT_PREPARED });
    const [reference, modelAudio] = await Promise.all([
      this.#prepareReference(draft, signal),
      this.#prepareModelAudio(draft, signal),
    ]);
    signal.throwIfAborted();
    const accepted = await this.#jobs.submit({ ...draft, reference, modelAudio }, checked.priority);
    checkSameOrder(accepted.job.definition, checked);
    return accepted;
  }

  async #draft(spec: CheckedSpec, ids: Pick<Draft, 'jobId' | 'idempotencyKey'>, signal: AbortSignal): Promise<Draft> {
    const { settings, notes } = resolveSettings(spec.settings);
    const path = await this.#inputPath(spec.imageSha256, 'image');
    const image = await this.#pictures.run(() => probeImage(this.#ffmpeg, path, signal), { signal });
    checkImage(image.width, image.height);
    const picture = checkPicture(image.width, image.height, settings.size, MAX_UNITS_TPP);
    await this.#inputPath(spec.audioSha256, 'audio');
    const audio = await this.#audio.get(spec.audioSha256, { signal, urgent: true });
    const audioFrames = framesForSamples(audio.samples, DELIVERY_SAMPLE_RATE);
    if (audioFrames === 0) {
      throw new FarmError(
        'invalid_argument',
        `audio: it has ${audio.samples} samples at 48 kHz; accepted: at least 960, half a frame`,
        {
          field: 'audio',
        },
      );
    }
    const resolved = resolveClips(settings, audioFrames, spec.settings.numClip);
    return {
      ...ids,
      name: spec.name,
      owner: spec.owner,
      prompt: spec.prompt,
      imageSha256: spec.imageSha256,
      audioSha256: spec.audioSha256,
      ...(spec.deadline === undefined ? {} : { deadline: spec.deadline }),
      ...(spec.settings.numClip === undefined ? {} : { numClip: spec.settings.numClip }),
      preset: settings.preset,
      size: settings.size,
      sampleSteps: settings.sampleSteps,
      baseSeed: settings.baseSeed ?? this.#drawSeed(),
      anchorMode: settings.anchor,
      width: picture.width,
      height: picture.height,
      clips: resolved.clips,
      frames: Math.min(audioFrames, resolved.clips * CLIP_FRAMES),
      audioSamples: audio.samples,
      notes: [...notes, ...resolved.notes, ...promptNotes(spec.prompt)],
    };
  }

  #refuseUnfit(definition: JobDefinition): void {
    const fits = this.#fleet.fits(definition);
    if (fits.length === 0 || fits.some((fit) => fit.fits)) return;
    const why = [...new Set(fits.map((fit) => `${fit.node.name}/${fit.slot.slotId}: ${fit.detail}`))].slice(0, 5);
    throw new FarmError('failed_precondition', `no slot of this farm can render the job: ${why.join('; ')}`, {
      field: 'size',
      hint: 'clipfarm plan shows what each slot would need',
    });
  }

  async #inputPath(sha256: string, field: 'image' | 'audio'): Promise<string> {
    const key = artifactKeys.input(sha256);
    await this.#inputs.use(sha256);
    if (await this.#store.stat(key)) return this.#store.localFile(key);
    this.#inputs.absent(sha256);
    throw new FarmError('not_found', `${field}: ${sha256} was not uploaded`, { field });
  }

  async #prepareReference(draft: Draft, signal: AbortSignal): Promise<ContentRef> {
    const out = join(this.#store.tempDir(), `reference-${randomUUID()}.png`);
    const source = await this.#inputPath(draft.imageSha256, 'image');
    const { width, height } = draft;
    const prepare = () => prepareReference(this.#ffmpeg, source, { width, height }, out, signal);
    await this.#pictures.run(prepare, { signal });
    return this.#keep(out);
  }

  async #prepareModelAudio(draft: Draft, signal: AbortSignal): Promise<ContentRef> {
    const out = join(this.#store.tempDir(), `model-${randomUUID()}.wav`);
    const options = { signal, urgent: true };
    const make = ({ deliveryWav, samples }: DecodedAudio) => {
      const wanted = modelAudioSamples(draft.clips);
      const longest = Math.max(wanted, Math.ceil((samples / DELIVERY_SAMPLE_RATE) * MODEL_SAMPLE_RATE));
      const request = { bytes: longest * BYTES_PER_SAMPLE, field: 'audio', what: "bytes of the model's sound" };
      const convert = () => modelWav(this.#ffmpeg, deliveryWav, wanted, out, signal);
      return this.#queue.run(() => this.#room.hold(request, convert), options);
    };
    await this.#audio.use(draft.audioSha256, make, options);
    return this.#keep(out);
  }

  async #keep(path: string): Promise<ContentRef> {
    const ref = { sha256: await hashFile(path), bytes: (await stat(path)).size };
    await this.#inputs.use(ref.sha256);
    await this.#store.putFile(artifactKeys.input(ref.sha256), path, ref);
    return ref;
  }
}
