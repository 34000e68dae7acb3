import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { Gpu } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { type GpuReading, readGpus } from '@clipfarm/shared/gpu/nvidia-smi';
import type { Logger } from '@clipfarm/shared/log';
import { type GpuHealth, type GpuLook, judgeGpus, newGpuHealth } from './health.ts';
import { gpuMessage } from './inventory.ts';
import { readXids } from './xid.ts';

/** What a {@link GpuWatch} works with. */
export interface GpuWatchOptions {
  /** As they were read at the start of the agent. */
  readonly gpus: readonly GpuReading[];
  /** Seconds that the host is up. */
  readonly uptime: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is known of the GPUs has changed: some fell out, or are back. */
  readonly onHealth: (health: GpuHealth) => void;
  /** One look; the driver and the kernel's log unless a test says otherwise. */
  readonly look?: () => Promise<GpuLook>;
}

/** Milliseconds between looks. */
const LOOK_MILLIS = 10_000;

/** Looks at the GPUs from time to time, and says when one can't be used any more or can be used again. */
export class GpuWatch {
  readonly #options: GpuWatchOptions;
  #health: GpuHealth;
  #timer: Timer | null = null;
  #closed = false;
  /** Whether they were read since {@link takeFresh} was asked. */
  #fresh = false;

  constructor(options: GpuWatchOptions) {
    this.#options = options;
    this.#health = newGpuHealth(options.gpus, options.uptime);
    if (options.gpus.length > 0) this.#later();
  }

  /** The GPUs as they were read last. */
  get gpus(): readonly Gpu[] {
    return this.#health.gpus.map((gpu) => gpuMessage(gpu, this.#health.troubles.get(gpu.uuid)));
  }

  /** The GPUs if they were read since this was asked last, otherwise none. */
  takeFresh(): readonly Gpu[] {
    const fresh = this.#fresh;
    this.#fresh = false;
    return fresh ? this.gpus : [];
  }

  /** Looks no more. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #later(): void {
    if (!this.#closed) this.#timer = this.#options.clock.setTimeout(() => void this.#look(), LOOK_MILLIS);
  }

  async #look(): Promise<void> {
    const { look = lookAtDriver, onHealth, log } = this.#options;
    const before = this.#health;
    const now = judgeGpus(before, await look());
    if (this.#closed) return;
    this.#health = now;
    this.#fresh = true;
    for (const gpu of now.gpus) {
      const trouble = now.troubles.get(gpu.uuid);
      if (trouble === before.troubles.get(gpu.uuid)) continue;
      if (trouble === undefined) log.info({ gpu: gpu.index }, 'the GPU is back');
      else log.error({ gpu: gpu.index, reason: trouble }, 'the GPU can not be used');
    }
    if (!sameTroubles(before, now)) onHealth(now);
    this.#later();
  }
}

function sameTroubles(a: GpuHealth, b: GpuHealth): boolean {
  return a.troubles.size === b.troubles.size && [...a.troubles].every(([uuid, text]) => b.troubles.get(uuid) === text);
}

async function lookAtDriver(): Promise<GpuLook> {
  const [readings, xids] = await Promise.all([
    readGpus().catch((error: unknown) => FarmError.from(error).message),
    readXids(),
  ]);
  return { readings, xids };
}
