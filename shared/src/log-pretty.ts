import type { DestinationStream } from 'pino';
import { escapeText } from './escape-text.ts';

const levelNames: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO ',
  40: 'WARN ',
  50: 'ERROR',
  60: 'FATAL',
};

/**
 * Turns pino's JSON lines into readable ones: time, level, component, message, then `key=value`, then the stack, further
 * in than any line begins. What others have said can neither move the cursor nor pass for a line of its own.
 */
export function prettyStream(out: DestinationStream): DestinationStream {
  return { write: (line) => out.write(prettyLine(line)) };
}

function prettyLine(line: string): string {
  const { time, level, name, msg, pid, hostname, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const head = `${String(time).slice(11, 23)} ${levelNames[Number(level)] ?? level} ${name}: ${msg ?? ''}`;
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`);
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? String(err.stack).split('\n') : [];
  return [`${head}${pairs.join('')}`, ...stack.map((row) => `  ${row}`)].map((row) => `${escapeText(row)}\n`).join('');
}

function plain(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
