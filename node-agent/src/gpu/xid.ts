import { runTool } from '@clipfarm/shared/process';

/** An error that the driver reported to the kernel's log. */
export interface XidError {
  /** Seconds since the host was started. */
  readonly at: number;
  /** PCI address, `0000:3b:00.0`. */
  readonly pci: string;
  readonly xid: number;
  /** The line, without its time. */
  readonly text: string;
}

/**
 * Errors after which a GPU is of no use until it is reset, from NVIDIA's list of XID errors: memory that can't be
 * corrected, a page that can't be retired, NVLink, off the bus, contained and uncontained memory errors, GSP. The others
 * are mostly the program's own fault (13, 31, 43, 45) and end it, not the GPU.
 */
export const FATAL_XIDS: ReadonlySet<number> = new Set([48, 62, 64, 74, 79, 95, 119, 120, 140]);

const LINE =
  /^\[\s*(\d+\.\d+)\]\s*(NVRM: Xid \(PCI:([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2})(?:\.[0-9a-f])?\): (\d+),.*)$/i;

/** XID errors from the kernel's log as `dmesg` prints it. */
export function parseXids(log: string): readonly XidError[] {
  return log.split('\n').flatMap((line) => {
    const match = LINE.exec(line.trim());
    if (match === null) return [];
    const [, at, text = '', pci = '', xid] = match;
    return [{ at: Number(at), pci: `${pci.toLowerCase()}.0`, xid: Number(xid), text: text.slice(0, 300) }];
  });
}

/** XID errors in the kernel's log; null when this process may not read it, which is usual without privileges. */
export async function readXids(): Promise<readonly XidError[] | null> {
  try {
    const { stdout } = await runTool('dmesg', [], { timeoutMs: 5000, maxOutputBytes: 4 * 2 ** 20 });
    return parseXids(stdout.toString('utf8'));
  } catch {
    return null;
  }
}
