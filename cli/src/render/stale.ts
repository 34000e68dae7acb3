import type { Context } from '../context.ts';

/** Says on stderr that an answer may be outdated, where it may. */
export function noteStale(context: Context, { staleReason }: { readonly staleReason: string }): void {
  if (staleReason !== '') context.note(`note: ${staleText(staleReason)}`);
}

/** The same in words. */
export function staleText(reason: string): string {
  return `${reason}; what is shown may be outdated`;
}
