import { FarmError } from '@clipfarm/shared/errors';
import { runTool } from '@clipfarm/shared/process';
import { z } from 'zod';
import { type Check, failed, passed } from './check.ts';

/** What upstream's code imports on the way to a frame, by the name of the module. */
const MODULES = [
  ...['torchvision', 'numpy', 'diffusers', 'transformers', 'safetensors', 'peft', 'accelerate', 'einops', 'easydict'],
  ...['librosa', 'ftfy', 'regex', 'tqdm', 'yaml', 'PIL', 'cv2', 'decord', 'imageio'],
] as const;

/** Prints what is installed, as JSON. Importing torch takes seconds; nothing of upstream is imported. */
const PROBE = `
import importlib.util, json, platform, sys
from importlib import metadata
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return None
found = {"python": platform.python_version(), "executable": sys.executable, "torch": None, "cuda": None,
         "devices": [], "fp8": False, "error": None,
         "flash": version("flash-attn"), "flash3": importlib.util.find_spec("flash_attn_interface") is not None,
         "missing": [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]}
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda"] = torch.version.cuda
    found["fp8"] = hasattr(torch, "_scaled_mm") and hasattr(torch, "float8_e4m3fn")
    if torch.cuda.is_available():
        found["devices"] = [list(torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())]
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
`;

const probed = z.object({
  python: z.string().max(50),
  executable: z.string().max(4096),
  torch: z.string().max(100).nullable(),
  cuda: z.string().max(50).nullable(),
  devices: z.array(z.tuple([z.number(), z.number()])).max(64),
  fp8: z.boolean(),
  error: z.string().max(10_000).nullable(),
  flash: z.string().max(100).nullable(),
  flash3: z.boolean(),
  missing: z.array(z.string().max(100)),
});

/** What the Python of the runners has. */
export type Probed = z.infer<typeof probed>;

/** Milliseconds; a first import of torch from a cold network disk takes minutes. */
const TIMEOUT_MILLIS = 300_000;

/**
 * Asks a Python what it has.
 *
 * @throws FarmError when it can't be run or says something else
 */
export async function probePython(python: string): Promise<Probed> {
  const { stdout } = await runTool(python, ['-c', PROBE, ...MODULES], {
    timeoutMs: TIMEOUT_MILLIS,
    maxOutputBytes: 2 ** 20,
    // The user's own program, with the devices and folders that the user gave it.
    env: process.env,
  });
  // Packages print what they like while they are imported.
  const last = stdout.toString('utf8').trimEnd().split('\n').at(-1) ?? '';
  try {
    return probed.parse(JSON.parse(last));
  } catch (cause) {
    throw new FarmError('internal', `${python} answered "${last.slice(0, 200)}"`, { cause });
  }
}

/** Checks of Python, torch, attention, fp8 and packages; one of Python alone when it can't be asked. */
export async function checkPython(python: string, wantsFp8: boolean): Promise<readonly Check[]> {
  let found: Probed;
  try {
    found = await probePython(python);
  } catch (error) {
    // The hint of a missing program would say to put it on the PATH.
    return [failed('python', FarmError.from(error).message, MAKE_VENV)];
  }
  return judgePython(found, wantsFp8);
}

const MAKE_VENV = `Make a virtual environment with Python 3.10 or newer, and add --python DIR/bin/python3.`;

/** What is wrong with what was found, and what to do. */
export function judgePython(found: Probed, wantsFp8: boolean): readonly Check[] {
  return [
    judgeVersion(found),
    judgeTorch(found),
    judgeAttention(found),
    judgeFp8(found, wantsFp8),
    judgeModules(found),
  ];
}

function judgeVersion({ python, executable }: Probed): Check {
  const [major = 0, minor = 0] = python.split('.').map(Number);
  if (major === 3 && minor >= 10) return passed('python', `${python} at ${executable}`);
  return failed('python', `${python} at ${executable}; needed is 3.10 or newer`, MAKE_VENV);
}

/** The command depends on the driver; PyTorch's site has one for each. */
const INSTALL_TORCH =
  'Install PyTorch 2.8 there, with the pip command that its site shows for the CUDA of your driver (nvidia-smi shows ' +
  'which). If it is in another Python, add --python DIR/bin/python3.';

function judgeTorch({ torch, cuda, devices, error, executable }: Probed): Check {
  const fix = INSTALL_TORCH;
  if (torch === null) {
    const missing = error === null || /^ModuleNotFoundError: No module named 'torch'$/.test(error);
    return failed('torch', missing ? `PyTorch is not installed in ${executable}` : error, fix);
  }
  if (cuda === null) return failed('torch', `${torch} was built without CUDA`, fix);
  if (devices.length === 0) {
    const why = error === null ? '' : `: ${error}`;
    const advice =
      'Is the driver new enough for this CUDA (nvidia-smi shows the newest that it supports)? In a container, pass the GPUs in.';
    return failed('torch', `${torch} with CUDA ${cuda} finds no GPU${why}`, advice);
  }
  return passed('torch', `${torch} with CUDA ${cuda}, ${devices.length} GPUs`);
}

function judgeAttention({ torch, flash, flash3 }: Probed): Check {
  if (flash3) return passed('attention', 'FlashAttention 3');
  if (flash !== null) return passed('attention', `flash-attn ${flash}`);
  if (torch === null)
    return failed('attention', 'neither flash-attn nor PyTorch is installed', 'PyTorch brings its own; see torch.');
  // The live-avatar runner has a stand-in; upstream's own script has none.
  return passed('attention', "PyTorch's own; upstream's script (live-avatar-cli) would need flash-attn");
}

function judgeFp8({ torch, fp8, devices }: Probed, wanted: boolean): Check {
  const capable = devices.length > 0 && devices.every(([major, minor]) => major > 8 || (major === 8 && minor >= 9));
  if (fp8 && capable) return passed('fp8', 'torch and every GPU can');
  const [why, fix] =
    torch === null
      ? ['PyTorch is missing', 'See torch.']
      : capable
        ? [`PyTorch ${torch} is too old`, 'Install PyTorch 2.8.']
        : devices.length === 0
          ? ['torch finds no GPU', 'See torch.']
          : [
              'not every GPU has compute capability 8.9 or more',
              'Use a profile with bf16, such as single-80g, or GPUs of the Ada, Hopper or Blackwell generation.',
            ];
  if (!wanted) return passed('fp8', `not possible: ${why}; bf16 is used`);
  return failed('fp8', why, fix);
}

function judgeModules({ missing, executable }: Probed): Check {
  if (missing.length === 0) return passed('packages', `all ${MODULES.length} that rendering imports`);
  const fix = `Install them from the checkout of Live Avatar: ${executable} -m pip install -r requirements.txt`;
  return failed('packages', `missing: ${missing.join(', ')}`, fix);
}
