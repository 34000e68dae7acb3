/** A container of audio that is accepted, with FFmpeg's name for its reader. */
export interface AudioFormat {
  /** For people. */
  readonly name: string;
  /** FFmpeg's demuxer; forced, so that a crafted file can't choose another. */
  readonly demuxer: 'wav' | 'flac' | 'ogg' | 'mov' | 'mp3' | 'aac';
}

/** For people: what {@link sniffAudio} recognises. */
export const ACCEPTED_AUDIO = 'WAV, FLAC, MP3, M4A, AAC or Ogg';

/** Bytes of the beginning of a file that {@link sniffAudio} needs, tags not counted. */
export const SNIFF_BYTES = 16;

const WAV: AudioFormat = { name: 'WAV', demuxer: 'wav' };
const FLAC: AudioFormat = { name: 'FLAC', demuxer: 'flac' };
const OGG: AudioFormat = { name: 'Ogg', demuxer: 'ogg' };
const MP4: AudioFormat = { name: 'MP4 or M4A', demuxer: 'mov' };
const MP3: AudioFormat = { name: 'MP3', demuxer: 'mp3' };
const AAC: AudioFormat = { name: 'AAC', demuxer: 'aac' };

/** Bytes of the ID3v2 tag that begins the file, 0 when there is none (id3.org, ID3v2.4, section 3.1). */
export function id3TagBytes(head: Buffer): number {
  if (head.length < 10 || head.toString('latin1', 0, 3) !== 'ID3') return 0;
  const footer = (head.readUInt8(5) & 0x10) === 0 ? 0 : 10;
  const sevenBitDigits = [6, 7, 8, 9].map((at) => head.readUInt8(at) & 0x7f);
  return 10 + footer + sevenBitDigits.reduce((size, digit) => size * 128 + digit, 0);
}

/**
 * Recognises an audio file by its first bytes.
 *
 * @param head at least {@link SNIFF_BYTES} bytes where the file has them, beginning behind an ID3v2 tag if there is one.
 * @param tagged whether there was such a tag: what follows it unrecognised is taken for MP3 with padding.
 */
export function sniffAudio(head: Buffer, tagged: boolean): AudioFormat | undefined {
  const first = head.toString('latin1', 0, 4);
  if ((first === 'RIFF' || first === 'RF64') && head.toString('latin1', 8, 12) === 'WAVE') return WAV;
  if (first === 'fLaC') return FLAC;
  if (first === 'OggS') return OGG;
  if (head.toString('latin1', 4, 8) === 'ftyp') return MP4;
  return sniffMpegFrame(head) ?? (tagged ? MP3 : undefined);
}

/**
 * MPEG audio frames begin with eleven 1 bits and a layer; AAC in ADTS with twelve and the layer 0, which is reserved in
 * MPEG audio (ISO/IEC 11172-3, 2.4.2.3 and 13818-7, 6.2).
 */
function sniffMpegFrame(head: Buffer): AudioFormat | undefined {
  if (head.length < 4 || head.readUInt8(0) !== 0xff) return undefined;
  const second = head.readUInt8(1);
  if ((second & 0xf6) === 0xf0) return AAC;
  const bitrateIsValid = head.readUInt8(2) >> 4 !== 0x0f;
  return (second & 0xe0) === 0xe0 && (second & 0x06) !== 0 && (second & 0x18) !== 0x08 && bitrateIsValid
    ? MP3
    : undefined;
}
