import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { UntypedHandleCall } from '@grpc/grpc-js';
import { systemClock } from '../clock.ts';
import { AgentServiceClient, AgentServiceService } from '../gen/clipfarm/v1/agent_service.ts';
import { FarmServiceClient, FarmServiceService } from '../gen/clipfarm/v1/farm_service.ts';
import { createLogger } from '../log.ts';
import {
  type ClientChannelOptions,
  clientChannel,
  type ServerCredentialsOptions,
  serverCredentials,
} from './credentials.ts';
import { type RpcHandlers, rpcHandlers } from './handlers.ts';
import { closeServer, createFarmServer, listen } from './server.ts';

/** Paths of PEM files. */
export interface TestCertificates {
  readonly ca: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

/** A certificate authority, a server certificate for localhost and 127.0.0.1, and a client certificate. */
export function makeCertificates(dir: string): TestCertificates {
  const file = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = ['-subj', '/CN=test ca', '-days', '2', '-keyout', file('ca.key'), '-out', file('ca.pem')];
  openssl('req', '-x509', ...newKey, ...authority);
  const issue = (name: string, extension: string) => {
    writeFileSync(file(`${name}.ext`), extension);
    openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', file(`${name}.key`), '-out', file(`${name}.csr`));
    const signer = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '2'];
    const paths = ['-in', file(`${name}.csr`), '-extfile', file(`${name}.ext`), '-out', file(`${name}.pem`)];
    openssl('x509', '-req', ...signer, ...paths);
  };
  issue('server', 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  issue('client', 'subjectAltName=DNS:agent');
  return {
    ca: file('ca.pem'),
    serverCert: file('server.pem'),
    serverKey: file('server.key'),
    clientCert: file('client.pem'),
    clientKey: file('client.key'),
  };
}

/** A started server with some methods of the two services; the others answer that they are not implemented. */
export interface TestServer {
  readonly port: number;
  /** Lines that the server logged. */
  readonly logged: readonly Record<string, unknown>[];
  farm(channel?: Partial<ClientChannelOptions>): FarmServiceClient;
  agent(channel?: Partial<ClientChannelOptions>): AgentServiceClient;
}

/** Starts a server on a free port of 127.0.0.1; it and all clients are closed after the test. */
export async function startServer(
  t: TestContext,
  methods: (wrap: RpcHandlers) => Readonly<Record<string, UntypedHandleCall>>,
  access: Partial<ServerCredentialsOptions> = {},
): Promise<TestServer> {
  const granted = serverCredentials({ listen: '127.0.0.1:0', ...access });
  const server = createFarmServer({ token: granted.token });
  const logged: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void logged.push(JSON.parse(line)) };
  const implementation = methods(rpcHandlers(createLogger({ name: 'test', level: 'debug', destination })));
  server.addService(FarmServiceService, implementation);
  server.addService(AgentServiceService, implementation);
  const port = await listen(server, granted);
  const clients: { close(): void }[] = [];
  t.after(async () => {
    for (const client of clients) client.close();
    await closeServer(server, 200, systemClock);
  });
  const open = <C extends { close(): void }>(
    Client: new (...args: [string, ReturnType<typeof clientChannel>['credentials'], object]) => C,
    channel: Partial<ClientChannelOptions>,
  ): C => {
    const { address, credentials, options } = clientChannel({ address: `127.0.0.1:${port}`, ...channel });
    const client = new Client(address, credentials, options);
    clients.push(client);
    return client;
  };
  return {
    port,
    logged,
    farm: (channel = {}) => open(FarmServiceClient, channel),
    agent: (channel = {}) => open(AgentServiceClient, channel),
  };
}
