import { ServerInterceptingCall, type ServerInterceptor, ServerListenerBuilder } from '@grpc/grpc-js';
import { FarmError } from '../errors.ts';
import type { Secret } from '../secret.ts';
import { statusOf } from './error-status.ts';

/** Health checks come from probes that hold no token and learn nothing but up or down. */
const PUBLIC_PREFIX = '/grpc.health.v1.Health/';

/**
 * Refuses every call of every service, save health, that does not carry `authorization: Bearer <token>`. It sits in
 * front of all handlers, so a new method is protected without doing anything.
 */
export function bearerAuth(token: Secret): ServerInterceptor {
  return (method, call) => {
    if (method.path.startsWith(PUBLIC_PREFIX)) return new ServerInterceptingCall(call);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        const refusal = refusalOf(metadata.get('authorization'), token);
        if (refusal === undefined) next(metadata);
        else call.sendStatus(statusOf(refusal));
      })
      .build();
    return new ServerInterceptingCall(call, { start: (next) => next(listener) });
  };
}

function refusalOf(values: readonly (string | Buffer)[], token: Secret): FarmError | undefined {
  const hint = "Give the file that holds the coordinator's token.";
  const [value] = values;
  if (value === undefined) {
    return new FarmError('unauthenticated', 'token: this coordinator requires one', { field: 'token', hint });
  }
  const presented = /^Bearer ([!-~]+)$/.exec(value.toString())?.[1];
  if (values.length === 1 && presented !== undefined && token.matches(presented)) return undefined;
  return new FarmError('unauthenticated', 'token: it is not the one of this coordinator', { field: 'token', hint });
}
