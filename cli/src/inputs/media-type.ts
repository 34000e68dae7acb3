/** What the first bytes of a file say that it is. */
export interface MediaType {
  readonly kind: 'image' | 'audio' | 'video';
  /** Name for messages, for example `PNG`. */
  readonly name: string;
  /** True for MP4 and its relatives, where only the tracks tell audio from video. */
  readonly tracksDecide: boolean;
}

/** Bytes from the start of a file that {@link detectMediaType} looks at. */
export const HEAD_BYTES = 512;

/** Brands in `ftyp` that promise audio only: Apple's M4A and M4B. */
const audioBrands = ['M4A ', 'M4B ', 'M4P '];

type Rule = readonly [kind: MediaType['kind'], name: string, matches: (head: Buffer) => boolean];

const at =
  (offset: number, text: string) =>
  (head: Buffer): boolean =>
    head.toString('latin1', offset, offset + text.length) === text;

const riff = (form: string) => (head: Buffer) =>
  (at(0, 'RIFF')(head) || at(0, 'RF64')(head) || at(0, 'BW64')(head)) && at(8, form)(head);

/** The codec of an Ogg file stands at the start of its first page's data. */
const ogg = (codec: string) => (head: Buffer) => at(0, 'OggS')(head) && head.indexOf(codec, 0, 'latin1') > 0;

/** Frame header of MPEG audio: eleven ones, then version, layer (0 is AAC's ADTS), bit rate and sampling rate. */
function isMpegFrame(head: Buffer, adts: boolean): boolean {
  const [first = 0, second = 0, third = 0] = head;
  if (first !== 0xff || (second & 0xe0) !== 0xe0) return false;
  const layer = (second >> 1) & 3;
  if (adts) return (second & 0xf6) === 0xf0 && ((third >> 2) & 15) < 13;
  return layer !== 0 && ((second >> 3) & 3) !== 1 && third >> 4 !== 15 && ((third >> 2) & 3) !== 3;
}

const rules: readonly Rule[] = [
  ['image', 'PNG', at(0, '\x89PNG\r\n\x1a\n')],
  ['image', 'JPEG', at(0, '\xff\xd8\xff')],
  ['image', 'WebP', riff('WEBP')],
  ['image', 'GIF', at(0, 'GIF8')],
  ['image', 'BMP', (head) => at(0, 'BM')(head) && at(6, '\0\0\0\0')(head)],
  ['image', 'TIFF', (head) => at(0, 'II*\0')(head) || at(0, 'MM\0*')(head)],
  ['image', 'AVIF or HEIC', (head) => at(4, 'ftyp')(head) && /^(avif|avis|heic|heix|mif1|hevc)$/.test(brandOf(head))],
  ['audio', 'WAV', riff('WAVE')],
  ['video', 'AVI', riff('AVI ')],
  ['audio', 'FLAC', at(0, 'fLaC')],
  ['video', 'Ogg video', ogg('\x80theora')],
  ['audio', 'Ogg', at(0, 'OggS')],
  ['audio', 'MP3', at(0, 'ID3')],
  ['audio', 'AAC', (head) => isMpegFrame(head, true)],
  ['audio', 'MP3', (head) => isMpegFrame(head, false)],
  ['video', 'Matroska or WebM', at(0, '\x1a\x45\xdf\xa3')],
  ['video', 'MPEG', (head) => at(0, '\0\0\x01\xba')(head) || at(0, '\0\0\x01\xb3')(head)],
  ['video', 'MPEG-TS', (head) => head[0] === 0x47 && head[188] === 0x47],
  ['video', 'Flash video', at(0, 'FLV\x01')],
  ['video', 'Windows Media', at(0, '\x30\x26\xb2\x75\x8e\x66\xcf\x11')],
];

function brandOf(head: Buffer): string {
  return head.toString('latin1', 8, 12);
}

/**
 * Recognises a file by its first {@link HEAD_BYTES} bytes, whatever its name says. Undefined for anything that is not
 * a common image, audio or video format.
 */
export function detectMediaType(head: Buffer): MediaType | undefined {
  const rule = rules.find(([, , matches]) => matches(head));
  if (rule !== undefined) return { kind: rule[0], name: rule[1], tracksDecide: false };
  if (!at(4, 'ftyp')(head)) return undefined;
  const audio = audioBrands.includes(brandOf(head));
  return { kind: audio ? 'audio' : 'video', name: audio ? 'M4A' : 'MP4', tracksDecide: true };
}
