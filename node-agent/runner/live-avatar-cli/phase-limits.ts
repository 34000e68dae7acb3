import { PHASES, type Phase } from './call-progress.ts';

/** Seconds that a phase may take without a sign of life before the call counts as hung. */
export interface PhaseClock {
  readonly phase: Phase;
  /** Clips of the call. */
  readonly clips: number;
  /** True once a block is denoised: the first one compiles. */
  readonly warm: boolean;
  /** Seconds that denoising has taken so far, or took. */
  readonly denoiseSeconds: number;
}

/** Imports of torch and upstream from a cold disk. */
const STARTING_SECONDS = 600;

/** 46 GB of weights from a network disk; the text encoder is built and read without a word. */
const LOADING_SECONDS = 2400;

/** Speech features, reference and prompt; a few seconds per minute of audio. */
const PREPARING_SECONDS = 900;

/** The first block compiles for one to two minutes, and again where a shape is new. */
const COMPILING_SECONDS = 1200;

/** A block takes one to two seconds on the GPUs that were measured. */
const BLOCK_SECONDS = 600;

/** Least patience with the silent decoder. */
const DECODING_SECONDS = 600;

/** Decoding took twice as long as denoising at most where it was measured. */
const DECODING_PER_DENOISING = 6;

/** Encoding and muxing on a host with few cores. */
const SAVING_SECONDS = 600;
const SAVING_SECONDS_PER_CLIP = 15;

/** See {@link PhaseClock}. Times before the factor of the runner's `--patience`. */
export function silenceLimit({ phase, clips, warm, denoiseSeconds }: PhaseClock): number {
  switch (phase) {
    case 'starting':
      return STARTING_SECONDS;
    case 'loading':
      return LOADING_SECONDS;
    case 'preparing':
      return PREPARING_SECONDS;
    case 'denoising':
      return warm ? BLOCK_SECONDS : COMPILING_SECONDS;
    case 'decoding':
      return Math.max(DECODING_SECONDS, DECODING_PER_DENOISING * denoiseSeconds);
    case 'saving':
      return SAVING_SECONDS + SAVING_SECONDS_PER_CLIP * clips;
  }
}

/**
 * Where phases end, as shares of the whole call. On one GPU decoding is two thirds of the work after the start; on five
 * it goes on meanwhile. The start weighs little, because its time does not grow with the call.
 */
const ENDS: Readonly<Record<'one' | 'five', Readonly<Record<Phase, number>>>> = {
  one: { starting: 0.01, loading: 0.03, preparing: 0.04, denoising: 0.35, decoding: 0.97, saving: 1 },
  five: { starting: 0.01, loading: 0.03, preparing: 0.04, denoising: 0.95, decoding: 0.95, saving: 1 },
};

/** Seconds that the phases of the start usually take. */
const START_SECONDS = { starting: 30, loading: 120, preparing: 20 } as const;

/** What {@link callShare} judges by. */
export interface CallTimes {
  readonly phase: Phase;
  /** Share of the denoising that is done. */
  readonly denoised: number;
  readonly denoiseSeconds: number;
  /** Seconds in the phase so far. */
  readonly phaseSeconds: number;
  readonly tpp: boolean;
}

/**
 * Share of a whole call that is done, 0 to below 1. Denoising is counted; the phases that say nothing are estimated from
 * the time that they usually take, and slow down as they take longer, so that the share always grows and never arrives.
 */
export function callShare({ phase, denoised, denoiseSeconds, phaseSeconds, tpp }: CallTimes): number {
  const ends = ENDS[tpp ? 'five' : 'one'];
  const before = PHASES[PHASES.indexOf(phase) - 1];
  const begin = before === undefined ? 0 : ends[before];
  const waited = (usual: number): number => phaseSeconds / (phaseSeconds + Math.max(usual, 1));
  const part = (done: number): number => begin + (ends[phase] - begin) * done;
  switch (phase) {
    case 'denoising':
      return part(denoised);
    case 'decoding':
      return part(waited(denoiseSeconds));
    case 'saving':
      return part(waited(denoiseSeconds / 20));
    default:
      return part(waited(START_SECONDS[phase]));
  }
}
