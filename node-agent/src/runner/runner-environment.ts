import { pickEnvironment } from '@clipfarm/shared/tool-environment';

/**
 * Names that a runner may inherit from the agent's environment. Everything else stays out: the agent's environment may
 * hold tokens, and a runner executes code that the farm does not own.
 */
const INHERITED: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'USER',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'SSL_CERT_FILE',
  'CUDA_HOME',
  'CUDA_PATH',
  'CUDA_DEVICE_ORDER',
  'CUDA_MODULE_LOADING',
  'NVIDIA_VISIBLE_DEVICES',
  'NVIDIA_DRIVER_CAPABILITIES',
  'PYTORCH_CUDA_ALLOC_CONF',
  'TORCH_HOME',
  'TORCHINDUCTOR_CACHE_DIR',
  'TRITON_CACHE_DIR',
  'HF_HOME',
  'HF_HUB_OFFLINE',
  'NCCL_DEBUG',
  'NCCL_SOCKET_IFNAME',
  'NCCL_P2P_DISABLE',
  'OMP_NUM_THREADS',
]);

/**
 * The whole environment of a runner process: what the allow-list lets through of `host`, then `own`, which wins and is
 * not filtered (the slot's devices, the model's settings).
 */
export function runnerEnvironment(
  host: Readonly<Record<string, string | undefined>>,
  own: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  return { ...pickEnvironment(host, (name) => INHERITED.has(name)), ...own };
}
