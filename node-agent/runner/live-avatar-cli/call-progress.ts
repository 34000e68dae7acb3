import { CLIP_FRAMES } from '@clipfarm/shared/model/clip';

/** What upstream does, in this order. */
export const PHASES = ['starting', 'loading', 'preparing', 'denoising', 'decoding', 'saving'] as const;

/** One of {@link PHASES}. */
export type Phase = (typeof PHASES)[number];

/** Frames that upstream denoises in one go, with a progress bar for each. */
const BLOCK_FRAMES = 12;

/** Progress bars per clip. */
export const BARS_PER_CLIP = CLIP_FRAMES / BLOCK_FRAMES;

/** What upstream's output has told so far about a model call. */
export interface CallProgress {
  readonly phase: Phase;
  /** Blocks of 12 frames that are denoised. */
  readonly blocks: number;
  /** Share of the block in hand, 0 to 1. */
  readonly ofBlock: number;
}

/** Before the first line. */
export const NOTHING_YET: CallProgress = { phase: 'starting', blocks: 0, ofBlock: 0 };

/** Lines with which phases begin, by what they contain; upstream prints them bare or through its logger. */
const MARKS: readonly (readonly [RegExp, Phase])[] = [
  [/(^|INFO: )Creating WanS2V pipeline\.$/, 'loading'],
  [/(^|INFO: )Generating video \.\.\.$/, 'preparing'],
  [/^complete prepare conditional inputs$/, 'denoising'],
  [/^complete full-sequence generation$/, 'decoding'],
  [/^denoising video done$/, 'saving'],
];

/** A bar of a block has nothing before its percentage; that of the checkpoint's shards has words. */
const BAR = /^\s*\d{1,3}%\|[^|]*\|\s*(\d+)\/(\d+)\s/;

/** What a line of output says about the call. Lines that say nothing, and phases that are over, change nothing. */
export function readLine(progress: CallProgress, line: string): CallProgress {
  const mark = MARKS.find(([pattern]) => pattern.test(line))?.[1];
  if (mark !== undefined)
    return PHASES.indexOf(mark) > PHASES.indexOf(progress.phase) ? { ...progress, phase: mark } : progress;
  const bar = progress.phase === 'denoising' ? BAR.exec(line) : null;
  if (bar === null) return progress;
  const done = Number(bar[1]);
  const total = Number(bar[2]);
  if (total < 1 || done > total) return progress;
  // A bar that is full is printed again when it is closed: the block counts once the next one begins.
  const share = done / total;
  if (progress.ofBlock === 1 && share < 1) return { ...progress, blocks: progress.blocks + 1, ofBlock: share };
  return share > progress.ofBlock ? { ...progress, ofBlock: share } : progress;
}

/** Share of the work of a whole call that is denoised, 0 to 1. */
export function denoisedShare(progress: CallProgress, clips: number): number {
  const blocks = clips * BARS_PER_CLIP;
  return Math.min(1, (Math.min(progress.blocks, blocks) + progress.ofBlock) / blocks);
}

/** Output without the prompt, which upstream prints and which may say anything, what a failure looks like included. */
export class PromptEcho {
  readonly #lines: number;
  #left = 0;

  constructor(prompt: string) {
    // Whoever splits the output drops blank lines and takes a carriage return for an end of line.
    const lines = prompt.split(/[\r\n]/).filter((line, i) => i > 0 && line.trimEnd() !== '');
    this.#lines = lines.length;
  }

  /** True for a line that is or may be part of the prompt. */
  covers(line: string): boolean {
    if (this.#left > 0) {
      this.#left -= 1;
      return true;
    }
    if (/INFO: Input prompt: ?/.test(line)) {
      this.#left = this.#lines;
      return true;
    }
    return /INFO: Generation job args: /.test(line);
  }
}
