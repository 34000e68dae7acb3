import { setTimeout as sleep } from 'node:timers/promises';
import { RunnerFailure } from '../common/runner-failure.ts';
import { type CallProgress, denoisedShare, NOTHING_YET, type Phase, PromptEcho, readLine } from './call-progress.ts';
import { clipsOfCall, type RankCommand } from './command.ts';
import { diagnose, type RankEnd, SWALLOWED } from './failure.ts';
import { callShare, silenceLimit } from './phase-limits.ts';
import { startRanks } from './ranks.ts';
import { folderBytes, GpuMeter, type GpuPeak, groupMemoryBytes } from './resources.ts';

/** A run of upstream's script. */
export interface ModelCall {
  readonly commands: readonly RankCommand[];
  readonly span: { readonly start: number; readonly end: number; readonly preRoll: number; readonly prompt: string };
  /** Private folder: upstream runs in it and writes its video there. */
  readonly folder: { readonly path: string; readonly limitBytes: number };
  /** Factor on every limit of time. */
  readonly patience: number;
  /** GPUs in use, as CUDA_VISIBLE_DEVICES names them. */
  readonly devices: string | undefined;
  /** Takes the share of the call that is done, 0 to below 1, at least every few seconds, never less than before. */
  readonly onShare: (share: number) => Promise<void>;
  readonly signal: AbortSignal;
}

/** What a run took. */
export interface CallFigures {
  /** Seconds from the loaded model to the saved video. */
  readonly renderSeconds: number;
  /** Most that it had in use on the most loaded GPU. */
  readonly gpu: GpuPeak;
  /** Most that all processes together had resident. */
  readonly hostBytes: number;
  /** What upstream logged about its video instead of failing. */
  readonly complaints: readonly string[];
}

/** Milliseconds between looks at the time, the memory and the disk. */
const LOOK_MS = 2000;

/** Lines that are kept as evidence. */
const EVIDENCE_LINES = 80;

/** Rank whose progress bars count: on five GPUs the one that does the last step of every block. */
const LAST_DIT_RANK = 3;

/** A progress bar of any kind: redrawn for hours, and no evidence. */
const ANY_BAR = /\d{1,3}%\|.*\|/;

/**
 * Runs upstream's script to its end. When this returns or throws, every process of it is gone.
 *
 * @throws RunnerFailure with upstream's own words, `hang` when a phase is silent for too long, `environment` when the
 *   video outgrows the disk; the signal's reason.
 */
export async function runModelCall(call: ModelCall): Promise<CallFigures> {
  const { commands, folder, signal, span } = call;
  signal.throwIfAborted();
  // What is in use already is not the script's.
  const meter = await GpuMeter.start(call.devices);
  signal.throwIfAborted();
  const watch = new Watch(call);
  const ranks = startRanks(commands, folder.path, (rank, line) => watch.take(rank, line));
  signal.addEventListener('abort', ranks.kill, { once: true });
  const over = new AbortController();
  const looking = look(call, watch, meter, ranks.group, over.signal).catch((error: unknown) => {
    // What the last look met can't end a call that is over.
    if (over.signal.aborted) return;
    watch.fail(error);
    ranks.kill();
  });
  let failed: RankEnd | null;
  try {
    failed = await ranks.ended;
    watch.over();
  } finally {
    signal.removeEventListener('abort', ranks.kill);
    over.abort();
    // A short call may end before the first look is over, and without one nothing is known of its memory.
    await looking;
  }
  signal.throwIfAborted();
  watch.throwIfFailed();
  if (failed === null) return { ...watch.figures(), gpu: meter.peak };
  const { errorClass, message, numbers } = diagnose(failed, watch.evidence(failed.rank));
  const { phase } = watch.progress;
  throw new RunnerFailure(errorClass, `${message} (while ${phase}, ${clipsOfCall(span)} clips)`, numbers);
}

/** Looks after the call until it is over: tells how far it is, and throws what must end it. */
async function look(call: ModelCall, watch: Watch, meter: GpuMeter, group: number, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    watch.throwIfHung();
    const [host, disk] = await Promise.all([groupMemoryBytes(group), folderBytes(call.folder.path), meter.look(group)]);
    watch.measured(host);
    if (disk > call.folder.limitBytes) {
      const numbers = { bytes: disk, limitBytes: call.folder.limitBytes };
      throw new RunnerFailure(
        'environment',
        `upstream's files outgrew the ${call.folder.limitBytes} bytes planned`,
        numbers,
      );
    }
    if (over.aborted) return;
    await call.onShare(watch.share());
    // Only the signal ends the wait early, and it is asked next.
    await sleep(LOOK_MS, undefined, { signal: over, ref: false }).catch(() => {});
  }
}

/** What is known of a running call, from its output and from the clock. */
class Watch {
  progress: CallProgress = NOTHING_YET;
  readonly #call: ModelCall;
  readonly #clips: number;
  readonly #tpp: boolean;
  readonly #echo: PromptEcho;
  readonly #lines = new Map<number, string[]>();
  readonly #began: Partial<Record<Phase, number>> = { starting: performance.now() };
  #lastSign = performance.now();
  #share = 0;
  #hostBytes = 0;
  #failure: unknown;
  /** When the last process was gone. */
  #ended: number | undefined;

  constructor(call: ModelCall) {
    this.#call = call;
    this.#clips = clipsOfCall(call.span);
    this.#tpp = call.commands.length > 1;
    this.#echo = new PromptEcho(call.span.prompt);
  }

  /** Takes a line that a rank printed. */
  take(rank: number, line: string): void {
    if (rank === 0 && this.#echo.covers(line)) return;
    const isBar = ANY_BAR.test(line);
    if (!isBar) this.#keep(rank, line);
    // Rank 0 tells the phases; on five GPUs another one tells the blocks.
    const counts = !this.#tpp || (isBar ? rank === LAST_DIT_RANK : rank === 0);
    if (!counts) return;
    const { phase } = this.progress;
    const next = readLine(this.progress, line);
    // Any word counts as a sign of life until the model runs; from then on only what it has done.
    const working = phase === 'denoising' || phase === 'decoding';
    if (!working || next !== this.progress) this.#lastSign = performance.now();
    this.progress = next;
    this.#began[next.phase] ??= performance.now();
  }

  measured(host: number): void {
    this.#hostBytes = Math.max(this.#hostBytes, host);
  }

  /** See {@link ModelCall.onShare}. */
  share(): number {
    const { phase } = this.progress;
    const times = { phase, denoised: denoisedShare(this.progress, this.#clips), tpp: this.#tpp };
    const phaseSeconds = secondsSince(this.#began[phase] ?? performance.now());
    const now = callShare({ ...times, denoiseSeconds: this.#denoiseSeconds(), phaseSeconds });
    this.#share = Math.max(this.#share, now);
    return this.#share;
  }

  throwIfHung(): void {
    const { phase, blocks } = this.progress;
    const denoiseSeconds = this.#denoiseSeconds();
    const limit = silenceLimit({ phase, clips: this.#clips, warm: blocks > 0, denoiseSeconds }) * this.#call.patience;
    const silent = secondsSince(this.#lastSign);
    if (silent <= limit) return;
    const after = phase === 'denoising' ? ` after ${blocks} blocks of 12 frames` : '';
    const message = `upstream's script gave no sign of life for ${Math.round(silent)} s while ${phase}${after}`;
    throw new RunnerFailure('hang', message, { silentSeconds: Math.round(silent), limitSeconds: limit, blocks });
  }

  /** Every process is gone. */
  over(): void {
    this.#ended = performance.now();
  }

  fail(error: unknown): void {
    this.#failure ??= error;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The last lines of a rank. */
  evidence(rank: number): readonly string[] {
    return this.#lines.get(rank) ?? [];
  }

  figures(): Omit<CallFigures, 'gpu'> {
    const end = this.#ended ?? performance.now();
    return {
      renderSeconds: (end - (this.#began.preparing ?? this.#began.starting ?? end)) / 1000,
      hostBytes: this.#hostBytes,
      complaints: [...this.#lines.values()].flat().flatMap((line) => SWALLOWED.exec(line)?.[0] ?? []),
    };
  }

  #denoiseSeconds(): number {
    const { denoising } = this.#began;
    if (denoising === undefined) return 0;
    const until = this.#began.decoding ?? this.#began.saving ?? performance.now();
    return (until - denoising) / 1000;
  }

  #keep(rank: number, line: string): void {
    const lines = this.#lines.get(rank) ?? [];
    this.#lines.set(rank, lines);
    lines.push(line);
    if (lines.length > EVIDENCE_LINES) lines.shift();
  }
}

function secondsSince(moment: number): number {
  return (performance.now() - moment) / 1000;
}
