import { open } from 'node:fs/promises';
import { FarmError } from '@clipfarm/shared/errors';
import { z } from 'zod';

/** A tensor's entry: number format, shape, and where its bytes are behind the header. */
const tensor = z.object({
  dtype: z.string().max(20),
  shape: z.array(z.number().int().nonnegative()).max(16),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

const header = z.record(z.string().max(500), tensor);

/** Largest header that is read, in bytes. The format allows 100 MB; that of a model of 14 B parameters has some 100 KB. */
const MAX_HEADER_BYTES = 16 * 2 ** 20;

/** What a file of weights holds. */
export interface SafetensorsInfo {
  /** Names of its tensors. */
  readonly names: ReadonlySet<string>;
  readonly dtypes: ReadonlySet<string>;
  /** Bytes of the file. */
  readonly bytes: number;
}

/**
 * Reads the header of a `.safetensors` file, and nothing else of it, and makes sure that the file is as long as the header
 * says: a download that broke off is the usual fault.
 *
 * @throws FarmError `failed_precondition` saying what is wrong with the file
 */
export async function readSafetensors(path: string): Promise<SafetensorsInfo> {
  const wrong = (what: string): FarmError => new FarmError('failed_precondition', `${path} ${what}`);
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const prefix = Buffer.alloc(8);
    if ((await file.read(prefix, 0, 8, 0)).bytesRead < 8) throw wrong('is shorter than 8 bytes');
    const length = prefix.readBigUInt64LE();
    if (length > BigInt(Math.min(size - 8, MAX_HEADER_BYTES))) {
      throw wrong(`has a header of ${length} bytes in a file of ${size}; it is no safetensors file, or broken off`);
    }
    const text = Buffer.alloc(Number(length));
    await file.read(text, 0, text.length, 8);
    const found = header.safeParse(withoutMetadata(text, wrong));
    if (!found.success) throw wrong(`has a header that is not understood: ${found.error.issues[0]?.message ?? ''}`);
    const entries = Object.values(found.data);
    const end = entries.reduce((most, { data_offsets: [, to] }) => Math.max(most, to), 0);
    const expected = 8 + text.length + end;
    if (size !== expected) throw wrong(`has ${size} bytes, its header says ${expected}; download it again`);
    const dtypes = new Set(entries.map(({ dtype }) => dtype));
    return { names: new Set(Object.keys(found.data)), dtypes, bytes: size };
  } finally {
    await file.close();
  }
}

function withoutMetadata(text: Buffer, wrong: (what: string) => FarmError): unknown {
  try {
    const parsed: unknown = JSON.parse(text.toString('utf8'));
    if (typeof parsed !== 'object' || parsed === null) return parsed;
    const { __metadata__: _, ...tensors } = parsed as Record<string, unknown>;
    return tensors;
  } catch {
    throw wrong('has a header that is no JSON');
  }
}
