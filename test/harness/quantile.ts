/** Times of one thing, in milliseconds. */
export type Times = readonly number[];

/** The share-th smallest of the times, such as 0.5 for the median; 0 of none. */
export function quantile(times: Times, share: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
}
