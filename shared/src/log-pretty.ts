import type { DestinationStream } from 'pino';

const levelNames: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO ',
  40: 'WARN ',
  50: 'ERROR',
  60: 'FATAL',
};

/** Turns pino's JSON lines into readable ones: time, level, component, message, then `key=value`, then the stack. */
export function prettyStream(out: DestinationStream): DestinationStream {
  return { write: (line) => out.write(prettyLine(line)) };
}

function prettyLine(line: string): string {
  const { time, level, name, msg, pid, hostname, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const head = `${String(time).slice(11, 23)} ${levelNames[Number(level)] ?? level} ${name}: ${msg ?? ''}`;
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`);
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? `\n${String(err.stack)}` : '';
  return `${head}${pairs.join('')}${stack}\n`;
}

function plain(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
