import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FaultProxy } from './fault-proxy.ts';

/** A server that has not become ready after this long never will. */
const READY_MILLIS = 60_000;

/**
 * A real S3 server on this machine, with buckets in a temporary directory. Everything goes through {@link S3Server.proxy},
 * which lists the requests and can break them.
 */
export class S3Server implements AsyncDisposable {
  readonly region = 'us-east-1';
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly proxy: FaultProxy;
  readonly #dir: string;
  readonly #child: ChildProcess;
  #buckets = 0;

  private constructor(dir: string, child: ChildProcess, proxy: FaultProxy, keys: readonly [string, string]) {
    this.#dir = dir;
    this.#child = child;
    this.proxy = proxy;
    [this.accessKeyId, this.secretAccessKey] = keys;
  }

  /** Starts a server. Fails, saying what to run, where none was set up. */
  static async start(): Promise<S3Server> {
    const binary = serverBinary();
    const dir = mkdtempSync(join(tmpdir(), 'clipfarm-s3-'));
    for (const name of ['data', 'meta']) mkdirSync(join(dir, name));
    const socket = join(dir, 'socket');
    const keys = [`key${randomBytes(8).toString('hex')}`, `secret${randomBytes(16).toString('hex')}`] as const;
    const log = openSync(join(dir, 'log'), 'a');
    // Metadata in files of its own: not every file system has extended attributes.
    const server = [binary, '--port', socket, '--quiet', 'posix', '--sidecar', join(dir, 'meta'), join(dir, 'data')];
    // The kernel ends the server should this process be killed before it can do so itself.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...server], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ROOT_ACCESS_KEY: keys[0], ROOT_SECRET_KEY: keys[1] },
    });
    closeSync(log);
    try {
      await untilReady(socket, child, join(dir, 'log'));
      return new S3Server(dir, child, await FaultProxy.start(socket), keys);
    } catch (error) {
      await end(child);
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** URL that clients use. */
  get endpoint(): string {
    return this.proxy.origin;
  }

  /** Makes an empty bucket. @returns its name */
  createBucket(): string {
    const name = `bucket-${++this.#buckets}`;
    mkdirSync(join(this.#dir, 'data', name));
    return name;
  }

  /** Where the server keeps an object; writing there changes it behind the server's back. */
  objectPath(bucket: string, key: string): string {
    return join(this.#dir, 'data', bucket, ...key.split('/'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await end(this.#child);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function untilReady(socket: string, child: ChildProcess, logPath: string): Promise<void> {
  const deadline = performance.now() + READY_MILLIS;
  while (!(await answers(socket))) {
    const over = child.exitCode !== null || child.signalCode !== null;
    if (over || performance.now() > deadline) {
      assert.fail(`the S3 server did not become ready:\n${readFileSync(logPath, 'utf8').slice(-2000)}`);
    }
    await sleep(20);
  }
}

async function answers(socket: string): Promise<boolean> {
  const connection = createConnection(socket);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** The program: the one that CLIPFARM_S3_SERVER names, else the one from set-up. */
function serverBinary(): string {
  const built = fileURLToPath(new URL('../../.clipfarm/tools/versitygw', import.meta.url));
  const path = process.env.CLIPFARM_S3_SERVER || built;
  assert.ok(existsSync(path), `no S3 server for the tests at ${path}; run: sh deploy/setup-s3-test.sh`);
  return path;
}
