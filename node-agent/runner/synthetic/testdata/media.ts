import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pngEncoderArgs } from '@clipfarm/shared/media/encode';
import { runTool } from '@clipfarm/shared/process';

/** Writes 16 kHz mono samples (-1 to 1, as a function of the time in seconds) as a WAV file; gives its path. */
export async function writeWav(directory: string, seconds: number, sound: (t: number) => number): Promise<string> {
  const samples = Math.round(seconds * 16_000);
  const file = Buffer.alloc(44 + 2 * samples);
  file.write('RIFF', 0, 'latin1');
  file.writeUInt32LE(file.length - 8, 4);
  file.write('WAVEfmt ', 8, 'latin1');
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(16_000, 24);
  file.writeUInt32LE(32_000, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write('data', 36, 'latin1');
  file.writeUInt32LE(2 * samples, 40);
  for (let i = 0; i < samples; i += 1) file.writeInt16LE(Math.round(32_767 * sound(i / 16_000)), 44 + 2 * i);
  const path = join(directory, 'audio.wav');
  await writeFile(path, file);
  return path;
}

/** Writes a picture of soft colours as a PNG; gives its path. */
export async function writePicture(directory: string, width: number, height: number): Promise<string> {
  const rgb = Buffer.from(picture(width, height));
  const output = join(directory, `${width}x${height}.png`);
  await runTool('ffmpeg', pngEncoderArgs({ width, height, output }), { timeoutMs: 60_000, stdin: rgb });
  return output;
}

/** A picture of soft colours, width x height x 3 bytes. */
export function picture(width: number, height: number): Uint8Array {
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return 128 + 90 * Math.sin((pixel % width) / 17 + (i % 3)) * Math.cos(Math.floor(pixel / width) / 23);
  });
}
