import { chmod, lstat, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { FarmError } from '@clipfarm/shared/errors';

/** Longest path of a Unix socket in bytes: `sun_path` of Linux less its terminating zero. */
export const MAX_SOCKET_PATH_BYTES = 107;

/** A listening Unix socket that takes exactly one connection. */
export interface RunnerSocket {
  /** Absolute path, for the runner's `--socket`. */
  readonly path: string;
  /** The connection, once somebody connected. Never settles when closed before. */
  readonly connected: Promise<Socket>;
  /** Stops listening and removes the socket; the connection, if any, stays. */
  close(): Promise<void>;
}

/**
 * Listens in a fresh directory below `socketDir` that only this user may enter: between `bind` and `chmod` a socket
 * itself would be open to what the umask allows.
 *
 * @throws FarmError `invalid_argument` when the path would be too long, `failed_precondition` when the directory is not this
 *   user's alone, `internal` when it can't be made or listening fails.
 */
export async function listenForRunner(socketDir: string): Promise<RunnerSocket> {
  const prefix = join(resolve(socketDir), 'r-');
  const pathBytes = Buffer.byteLength(`${prefix}XXXXXX/s`);
  if (pathBytes > MAX_SOCKET_PATH_BYTES) {
    const limit = MAX_SOCKET_PATH_BYTES - (pathBytes - Buffer.byteLength(resolve(socketDir)));
    throw new FarmError('invalid_argument', `socket directory "${socketDir}" is longer than ${limit} bytes`, {
      field: 'socketDir',
      hint: 'Configure a shorter directory, for example below /run or /tmp.',
    });
  }
  try {
    await mkdir(socketDir, { recursive: true, mode: 0o700 });
    await checkOwn(socketDir);
    return await listenIn(await mkdtemp(prefix));
  } catch (cause) {
    if (cause instanceof FarmError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FarmError('internal', `cannot listen for the runner: ${reason}`, { field: 'socketDir', cause });
  }
}

/**
 * Below /tmp anybody may have made it before: whoever owns it, or may write to it, could put a socket of his own in place of
 * the agent's, and command the runner.
 */
async function checkOwn(directory: string): Promise<void> {
  const found = await lstat(directory);
  const others = found.mode & 0o022;
  if (found.isDirectory() && found.uid === process.getuid?.() && others === 0) return;
  throw new FarmError('failed_precondition', `${directory} is not a directory of this user alone`, {
    field: 'socketDir',
    hint: 'Remove it, or give the agent a --state-dir with a shorter path.',
  });
}

async function listenIn(directory: string): Promise<RunnerSocket> {
  const path = join(directory, 's');
  const server = createServer();
  const { promise: connected, resolve: onConnected } = Promise.withResolvers<Socket>();
  server.on('connection', (socket) => {
    // The kernel may hand over a second one before `close` takes effect.
    if (!server.listening) {
      socket.destroy();
      return;
    }
    server.close();
    onConnected(socket);
  });
  try {
    await new Promise<void>((listening, failed) => {
      server.once('error', failed);
      server.listen(path, listening);
    });
    await chmod(path, 0o600);
  } catch (error) {
    server.close();
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return {
    path,
    connected,
    async close() {
      server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
