/** A box: its size, its type of four characters, and what it holds (ISO/IEC 14496-12, 4.2). */
export function box(type: string, ...parts: readonly Uint8Array[]): Buffer {
  const bytes = parts.reduce((sum, part) => sum + part.length, 8);
  return Buffer.concat([u32(bytes), Buffer.from(type, 'latin1'), ...parts], bytes);
}

/** A box that begins with a version and 24 bits of flags. */
export function fullBox(type: string, version: number, flags: number, ...parts: readonly Uint8Array[]): Buffer {
  return box(type, u32(version * 2 ** 24 + flags), ...parts);
}

/** Bytes. */
export function u8(...values: readonly number[]): Buffer {
  return Buffer.from(values);
}

/** 16-bit numbers, big-endian. */
export function u16(...values: readonly number[]): Buffer {
  const buffer = Buffer.allocUnsafe(values.length * 2);
  for (const [i, value] of values.entries()) buffer.writeUInt16BE(value, i * 2);
  return buffer;
}

/** A few 32-bit numbers, big-endian. Throws RangeError when one does not fit. */
export function u32(...values: readonly number[]): Buffer {
  return u32Table(values);
}

/** Any number of 32-bit numbers, big-endian. Throws RangeError when one does not fit. */
export function u32Table(values: ArrayLike<number>): Buffer {
  const buffer = Buffer.allocUnsafe(values.length * 4);
  for (let i = 0; i < values.length; i++) buffer.writeUInt32BE(values[i] ?? 0, i * 4);
  return buffer;
}

/** Any number of 64-bit numbers, big-endian. */
export function u64Table(values: ArrayLike<number>): Buffer {
  const buffer = Buffer.allocUnsafe(values.length * 8);
  for (let i = 0; i < values.length; i++) buffer.writeBigUInt64BE(BigInt(values[i] ?? 0), i * 8);
  return buffer;
}
