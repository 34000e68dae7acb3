import type { Clock, Timer } from '@clipfarm/shared/clock';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { createLogUpdate } from 'log-update';
import { renderProgress } from '../render/progress.ts';
import { progressView } from '../render/progress-view.ts';
import type { Style } from '../render/style.ts';
import type { TextStream } from '../shell.ts';
import { createLineLog } from './line-log.ts';

/** Shows a job while it is followed. */
export interface Display {
  /** The job after a change. */
  job(job: Job): void;
  /** What the nodes say about themselves. */
  nodes(nodes: readonly Node[]): void;
  /** The coordinator is away; the next change of the job ends it. */
  outage(text: string): void;
  /** Draws what is left to draw and leaves the last picture where it is. */
  close(): void;
}

/** Milliseconds between two pictures: at most ten a second. */
const REDRAW_MS = 100;

/** Milliseconds after which the picture is drawn again without news, so that forecasts count down. */
const TICK_MS = 1000;

/** Most lines for slots; more would push the bar off small terminals. */
const MAX_SLOT_LINES = 12;

/** Lines of the picture that are not slots, and one for the cursor. */
const OTHER_LINES = 8;

/** A picture that is drawn over and over on a terminal, or plain lines where the stream is none. */
export function createDisplay(stream: TextStream, style: Style, clock: Clock): Display {
  return stream.isTTY === true ? createPicture(stream, style, clock) : createLines(stream, clock);
}

function createPicture(stream: TextStream, style: Style, clock: Clock): Display {
  const update = createLogUpdate(stream);
  let job: Job | undefined;
  let nodes: readonly Node[] = [];
  let warning: string | undefined;
  let heardAt = clock.monotonic();
  let drawnAt = Number.NEGATIVE_INFINITY;
  let timer: Timer | undefined;

  const draw = (): void => {
    drawnAt = clock.monotonic();
    arm(TICK_MS);
    if (job === undefined) return;
    const rows = stream.rows ?? 24;
    const layout = {
      width: Math.max(20, (stream.columns ?? 80) - 1),
      slotLines: Math.max(1, Math.min(MAX_SLOT_LINES, rows - OTHER_LINES)),
      staleSeconds: (drawnAt - heardAt) / 1000,
      ...(warning === undefined ? {} : { warning }),
    };
    update(renderProgress(progressView(job, nodes), layout, style).join('\n'));
  };
  const arm = (delay: number): void => {
    timer?.cancel();
    timer = clock.setTimeout(draw, delay);
  };
  const soon = (): void => arm(Math.max(0, drawnAt + REDRAW_MS - clock.monotonic()));

  return {
    job(next) {
      job = next;
      warning = undefined;
      heardAt = clock.monotonic();
      soon();
    },
    nodes(next) {
      nodes = next;
      soon();
    },
    outage(text) {
      warning = text;
      soon();
    },
    close() {
      draw();
      timer?.cancel();
      update.done();
    },
  };
}

function createLines(stream: TextStream, clock: Clock): Display {
  const log = createLineLog(clock.monotonic());
  let nodes: readonly Node[] = [];
  const write = (line: string | undefined): void => {
    if (line !== undefined) stream.write(`${line}\n`);
  };
  return {
    job: (job) => write(log.job(progressView(job, nodes), clock.monotonic())),
    nodes(next) {
      nodes = next;
    },
    outage: (text) => write(log.outage(text, clock.monotonic())),
    close() {},
  };
}
