import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LOCAL_ONLY, QUIET } from '@clipfarm/shared/media/encode';
import { runTool } from '@clipfarm/shared/process';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

/** A node agent as a process of its own. */
export class AgentProcess {
  readonly child: ChildProcess;
  /** How it ended, once it is gone and everything that it printed is in {@link output}. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Everything that it printed. */
  output = '';

  private constructor(args: readonly string[], env: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.exited = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (part: Buffer) => {
        this.output += part.toString('utf8');
      });
    }
  }

  /** Starts an agent, which is killed after the test at the latest. */
  static start(
    t: TestContext,
    stateDir: string,
    coordinator: string,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): AgentProcess {
    const flags = ['--coordinator', coordinator, '--state-dir', stateDir, '--name', 'test', '--log-level', 'debug'];
    const agent = new AgentProcess([...flags, ...args], env);
    t.after(() => agent.kill());
    return agent;
  }

  /** Kills it without warning and waits until it is gone. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** Log lines that contain a text. */
  lines(text: string): readonly string[] {
    return this.output.split('\n').filter((line) => line.includes(text));
  }
}

/** Command lines of live processes that mention a directory: runners and encoders of the agent that works there. */
export function processesOf(dir: string, program = ''): readonly { readonly pid: number; readonly command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((name) => ({ pid: Number(name), command: commandLine(name) }))
    .filter(({ command }) => command.includes(dir) && command.includes(program) && !command.includes(MAIN));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(join('/proc', pid, 'cmdline'), 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** A PNG of exactly that many pixels. */
export async function testPicture(width: number, height: number): Promise<Buffer> {
  const source = ['-f', 'lavfi', '-i', `testsrc2=size=${width}x${height}:rate=1`, '-frames:v', '1'];
  const { stdout } = await runTool('ffmpeg', [...QUIET, ...source, '-c:v', 'png', '-f', 'image2pipe', 'pipe:1'], {
    timeoutMs: 30_000,
  });
  return stdout;
}

/** A WAV of 16 kHz mono PCM: a tone that comes and goes. */
export function testAudio(seconds: number): Buffer {
  const samples = Math.round(seconds * 16_000);
  const wav = Buffer.alloc(44 + 2 * samples);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(36 + 2 * samples, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(16_000, 24);
  wav.writeUInt32LE(32_000, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write('data', 36);
  wav.writeUInt32LE(2 * samples, 40);
  for (let i = 0; i < samples; i += 1) {
    const loudness = Math.max(0, Math.sin(i / 3000));
    wav.writeInt16LE(Math.round(12_000 * loudness * Math.sin(i / 12)), 44 + 2 * i);
  }
  return wav;
}

/** Brightness of every frame of a chunk, width x height bytes each. */
export async function grayFrames(path: string): Promise<Buffer> {
  const argv = [...QUIET, ...LOCAL_ONLY, '-i', path, '-f', 'rawvideo', '-pix_fmt', 'gray', 'pipe:1'];
  return (await runTool('ffmpeg', argv, { timeoutMs: 60_000 })).stdout;
}
