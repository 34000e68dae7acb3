import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import { escapeJsonLine } from './escape-text.ts';
import { prettyStream } from './log-pretty.ts';

export type { Logger } from 'pino';

/** From the quietest to the most talkative; `silent` writes nothing. */
export const logLevels = ['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;

/** One of {@link logLevels}. */
export type LogLevel = (typeof logLevels)[number];

/** How to make a {@link Logger}. */
export interface LoggerOptions {
  /** Component, written to every line. */
  readonly name: string;
  /** @default 'info' */
  readonly level?: LogLevel;
  /** One readable line instead of JSON. @default false */
  readonly pretty?: boolean;
  /** Where lines go. @default standard error */
  readonly destination?: DestinationStream;
}

const secretNames = ['authorization', 'cookie', 'password', 'secret', 'token', 'privateKey', 'accessKey', 'secretKey'];

// pino's wildcards match exactly one level, so every depth that is to be covered needs a path of its own. This is the
// second line of defence: secrets travel in the class Secret, which prints itself as redacted at any depth.
const redactedPaths = ['', '*.', '*.*.'].flatMap((depth) => secretNames.map((name) => depth + name));

/** A JSON line logger with ISO times that writes to standard error and keeps secrets out. */
export function createLogger(options: LoggerOptions): Logger {
  const raw = options.destination ?? destination({ fd: 2, sync: true });
  return pino(
    {
      name: options.name,
      level: options.level ?? 'info',
      timestamp: stdTimeFunctions.isoTime,
      redact: { paths: redactedPaths, censor: '[redacted]' },
      // On the finished line, so that texts, errors and their causes are covered alike.
      hooks: { streamWrite: (line) => escapeJsonLine(line.replace(/:\/\/[^\s/@"]+@/g, '://[redacted]@')) },
    },
    options.pretty === true ? prettyStream(raw) : raw,
  );
}
