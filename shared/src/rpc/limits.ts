import type { ChannelOptions } from '@grpc/grpc-js';

/** Largest gRPC message in bytes that is sent, and that a client takes: a page of a list. Media travels in pieces far below it. */
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;

/**
 * Largest one that a server takes: a piece of a file, and then some; everything else that it is sent is smaller. A message that
 * is on its way is in memory, for every open call, so this times the calls is what a client can make a server hold.
 */
export const MAX_REQUEST_BYTES = 2 * 1024 * 1024;

/** Largest piece of a file in one message, in bytes. */
export const MAX_PIECE_BYTES = 1024 * 1024;

/** Calls that one connection may have open at a time; an agent with 16 slots has a few dozen, further ones of a client wait. */
const MAX_CONCURRENT_STREAMS = 200;

/**
 * Both sides ping, calls or not: a peer that is frozen or cut off without a FIN is noticed within
 * `keepalive_time + keepalive_timeout` instead of never.
 */
const common: ChannelOptions = {
  'grpc.keepalive_time_ms': 4000,
  'grpc.keepalive_timeout_ms': 2000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  // The default of 64 KiB halves the throughput of uploads.
  'grpc-node.flow_control_window': 4 * 1024 * 1024,
};

/** Options of every client. A proxy set in the environment makes no sense for this machine itself. */
export function clientChannelOptions(loopback: boolean): ChannelOptions {
  return {
    ...common,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 5000,
    ...(loopback ? { 'grpc.enable_http_proxy': 0 } : {}),
  };
}

/** Options of the server. Connections without a call are closed after a while: health probes open one each time. */
export const serverChannelOptions: ChannelOptions = {
  ...common,
  'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
  // Its default, and it must stay: without channelz, forceShutdown() of grpc-js 1.14 finds no session to destroy.
  'grpc.enable_channelz': 1,
  'grpc.max_concurrent_streams': MAX_CONCURRENT_STREAMS,
  'grpc.max_connection_idle_ms': 5 * 60_000,
};
