import type { Timestamp } from '@clipfarm/shared/gen/google/protobuf/timestamp';

/** A protobuf time as Date. */
export function dateOf(time: Timestamp | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time.seconds * 1000 + time.nanos / 1e6);
}

/** Seconds to come as `0:07`, `12:34` or `1:02:03`, rounded up, so that a forecast reaches 0:00 only at the end. */
export function duration(seconds: number): string {
  return clockText(Math.max(0, Math.ceil(seconds)));
}

/** Length of a video as `0:10` or `1:02:03`, to the nearest second; below ten seconds with tenths, `9.6 s`. */
export function mediaLength(seconds: number): string {
  return seconds < 9.95 ? `${seconds.toFixed(1)} s` : clockText(Math.round(seconds));
}

function clockText(total: number): string {
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const rest = String(total % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

const byteUnits = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

/** Bytes with a decimal unit: `812 B`, `4.2 MB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.95 && unit < byteUnits.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${byteUnits[unit] ?? 'B'}`;
}

/** Seconds of video per second of wall clock: `1.4x`. */
export function speed(value: number): string {
  return `${value < 0.995 ? value.toFixed(2) : value.toFixed(1)}x`;
}

/** A share from 0 to 1 as whole percent, rounded down, so that 100 % means all of it. */
export function percent(share: number): string {
  return `${Math.floor(Math.min(1, Math.max(0, share)) * 100)}%`;
}

/** How long ago something was, in one unit: `12 s`, `3 min`, `5 h`, `2 d`. */
export function age(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** Time that GPUs work, in the largest unit of which it has one: `9 GPU-seconds`, `1.1 GPU-minutes`, `12.5 GPU-hours`. */
export function gpuTime(seconds: number): string {
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} GPU-second${seconds < 1.5 ? '' : 's'}`;
  if (seconds < 3570) return `${(seconds / 60).toFixed(1)} GPU-minutes`;
  return `${(seconds / 3600).toFixed(1)} GPU-hours`;
}

/** A count with its noun: `1 clip`, `3 clips`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
