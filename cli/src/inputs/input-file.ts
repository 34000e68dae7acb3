import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { InputKind } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { hashFile } from '@clipfarm/shared/hash-file';
import { checkImage } from '@clipfarm/shared/model/size';
import { imageSize } from 'image-size';
import { shellWord } from '../render/shell-word.ts';
import { bytes as bytesText } from '../render/units.ts';
import { isCutPng, isEmptyWav } from './damage.ts';
import { detectMediaType, HEAD_BYTES, type MediaType } from './media-type.ts';
import { hasVideoTrack } from './mp4-tracks.ts';
import { whyUnreadable } from './unreadable.ts';

/** A file that passed every check which needs no coordinator. */
export interface InputFile {
  readonly kind: InputKind;
  readonly path: string;
  /** Size in bytes. */
  readonly bytes: number;
  /** SHA-256 (hex) of the content. */
  readonly sha256: string;
}

/** Largest portrait in bytes. */
export const MAX_IMAGE_BYTES = 50_000_000;

/** Largest audio file in bytes. */
export const MAX_AUDIO_BYTES = 4_000_000_000;

const acceptedImages = 'a PNG, JPEG or WebP file';
const acceptedAudio = 'a WAV, MP3, M4A, AAC, FLAC or Ogg file';

/**
 * Checks a portrait: a readable PNG, JPEG or WebP file of 1 byte to 50 MB whose dimensions the model can work with.
 *
 * @throws FarmError `invalid_argument` on `image`.
 */
export async function inspectImage(path: string): Promise<InputFile> {
  return withFile('image', path, MAX_IMAGE_BYTES, acceptedImages, async (file, bytes) => {
    const type = await typeOf(file);
    const name = type?.name ?? '';
    if (!['PNG', 'JPEG', 'WebP'].includes(name)) {
      throw wrongType('image', path, type, acceptedImages, imageHint(path, type));
    }
    const content = Buffer.alloc(bytes);
    await file.read(content, 0, bytes, 0);
    checkDimensions(path, content);
    if (name === 'PNG' && isCutPng(content)) {
      throw damaged('image', path, `ends in the middle: it is damaged after ${bytesText(bytes)}`, acceptedImages);
    }
    return { kind: InputKind.INPUT_KIND_IMAGE, path, bytes, sha256: await hashFile(path) };
  });
}

/**
 * Checks an audio file: readable, 1 byte to 4 GB, of a known audio format and without a video track.
 *
 * @throws FarmError `invalid_argument` on `audio`.
 */
export async function inspectAudio(path: string): Promise<InputFile> {
  return withFile('audio', path, MAX_AUDIO_BYTES, acceptedAudio, async (file, bytes) => {
    const type = await typeOf(file);
    const video = type?.tracksDecide === true ? await hasVideoTrack(file, bytes) : undefined;
    const isAudio = video === undefined ? type?.kind === 'audio' : !video;
    if (!isAudio) {
      const seen = video === true && type !== undefined ? ({ ...type, kind: 'video' } as const) : type;
      throw wrongType('audio', path, seen, acceptedAudio, audioHint(path, seen));
    }
    if (type?.name === 'WAV' && (await isEmptyWav(file, bytes))) {
      throw damaged('audio', path, 'holds no sound at all', acceptedAudio);
    }
    return { kind: InputKind.INPUT_KIND_AUDIO, path, bytes, sha256: await hashFile(path) };
  });
}

async function withFile(
  field: 'image' | 'audio',
  path: string,
  limit: number,
  accepted: string,
  inspect: (file: FileHandle, bytes: number) => Promise<InputFile>,
): Promise<InputFile> {
  const refuse = (why: string) =>
    new FarmError(
      'invalid_argument',
      `${field}: "${path}" ${why}; accepted: ${accepted} of at most ${bytesText(limit)}`,
      {
        field,
        hint: `Correct --${field}.`,
      },
    );
  let file: FileHandle;
  try {
    // Non-blocking, because opening a named pipe would otherwise wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw refuse(whyUnreadable(error));
  }
  try {
    const status = await file.stat();
    if (!status.isFile()) throw refuse(status.isDirectory() ? 'is a directory' : 'is no regular file');
    if (status.size === 0) throw refuse('is empty');
    if (status.size > limit) throw refuse(`has ${bytesText(status.size)}`);
    return await inspect(file, status.size);
  } finally {
    await file.close();
  }
}

async function typeOf(file: FileHandle): Promise<MediaType | undefined> {
  const head = Buffer.alloc(HEAD_BYTES);
  const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
  return detectMediaType(head.subarray(0, bytesRead));
}

function checkDimensions(path: string, content: Buffer): void {
  let size: ReturnType<typeof imageSize>;
  try {
    size = imageSize(content);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new FarmError('invalid_argument', `image: the dimensions of "${path}" can't be read (${why})`, {
      field: 'image',
      hint: 'Save the picture again as PNG.',
      cause: error,
    });
  }
  // EXIF orientations from 5 on lie on their side: what is seen has width and height exchanged.
  const turned = (size.orientation ?? 1) >= 5;
  checkImage(turned ? size.height : size.width, turned ? size.width : size.height);
}

function wrongType(
  field: 'image' | 'audio',
  path: string,
  type: MediaType | undefined,
  accepted: string,
  hint: string,
): FarmError {
  const seen =
    type === undefined ? 'is of no known media format' : `is ${article(type.kind)} ${type.kind} file (${type.name})`;
  return new FarmError('invalid_argument', `${field}: "${path}" ${seen}; accepted: ${accepted}`, { field, hint });
}

function damaged(field: 'image' | 'audio', path: string, what: string, accepted: string): FarmError {
  const hint = `Correct --${field}.`;
  return new FarmError('invalid_argument', `${field}: "${path}" ${what}; accepted: ${accepted}`, { field, hint });
}

function article(kind: MediaType['kind']): string {
  return kind === 'video' ? 'a' : 'an';
}

function imageHint(path: string, type: MediaType | undefined): string {
  if (type?.kind === 'audio') return 'The audio belongs to --audio, the portrait to --image.';
  if (type?.kind === 'video') return `Take one frame of it: ffmpeg -i ${shellWord(path)} -frames:v 1 portrait.png`;
  return `Convert it: ffmpeg -i ${shellWord(path)} portrait.png`;
}

function audioHint(path: string, type: MediaType | undefined): string {
  if (type?.kind === 'image') return 'The picture belongs to --image, the speech to --audio.';
  if (type?.kind === 'video') return `Take its sound: ffmpeg -i ${shellWord(path)} -vn -c:a flac talk.flac`;
  return `Convert it: ffmpeg -i ${shellWord(path)} talk.flac`;
}
