"""Live Avatar on one GPU: loaded once, called span after span."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import audio, hooks, memory
from .caches import Cache, file_key, text_key
from .checkout import Checkout, commit_of, open_checkout
from .engine import Block, CallClosed, ModelCall, Stage, Usage
from .failures import Failure
from .loading import check_weights, load_pipeline
from .options import Options
from .span import CLIP_FRAMES, MAX_CALL_CLIPS
from .stream import StreamDecoder

#: Upstream's conditioning cache has room for 2800 tokens; a picture of u blocks of 64x64 pixels needs 40 u.
MAX_UNITS = 70
#: GPU bytes that may stay behind after a call beyond what was in use before: workspaces of libraries.
LEFTOVER_BYTES = 1 << 30


class LiveAvatar:
    """The engine. See `Engine` for its methods."""

    #: Place among the processes that share a model; 0 where there is one.
    _rank = 0
    _max_units = MAX_UNITS

    def __init__(self, options: Options, reproducibility: hooks.Reproducibility | None = None) -> None:
        self._options = options
        self._reproducibility = reproducibility or hooks.Reproducibility()
        self._checkout: Checkout | None = None
        self._wan: Any = None
        self._decoder: StreamDecoder | None = None
        self._resting_bytes = 0
        self._prompts: Cache[Any] = Cache(8)
        self._pictures: Cache[list[Any]] = Cache(8)
        self._features: Cache[audio.Features] = Cache(2, audio.Features.close)

    @property
    def torch(self) -> Any:
        """PyTorch, imported when first needed: without it the runner can still say what is missing."""
        return importlib.import_module("torch")

    def versions(self) -> dict[str, str]:
        versions = {"python": platform.python_version(), "upstream": commit_of(self._options.checkout)}
        for name in ("torch", "diffusers", "transformers", "peft", "flash-attn"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
        with contextlib.suppress(Exception):  # A broken torch shows when the model is loaded, with its reason.
            versions["cuda"] = str(self.torch.version.cuda)
            versions["gpu"] = self.torch.cuda.get_device_name()
        versions["dtype"] = "fp8" if self._options.fp8 else "bf16"
        versions["compiled"] = str(self._options.compile).lower()
        return versions

    def load(self, report: Callable[[str, float], None]) -> int:
        if self._wan is None:
            report("checking weights", 0.0)
            check_weights(self._options)
            report("importing", 0.01)
            if self._checkout is None:
                self._checkout = open_checkout(self._options.checkout, self._options.compile, self._options.tpp)
            self._wan = load_pipeline(self._checkout, self._options, report, self._rank)
            if not self._options.tpp:
                report("streaming decoder", 0.97)
                self._decoder = StreamDecoder(self.torch, self._new_streaming_vae())
            memory.give_back(self.torch)
            self._resting_bytes = memory.gpu_allocated(self.torch)
        return memory.gpu_reserved(self.torch)

    def check(self, call: ModelCall) -> None:
        units = call.width * call.height / 4096
        if call.width % 64 or call.height % 64 or units > self._max_units:
            message = (
                f"a picture of {call.width}x{call.height}; multiples of 64 with at most {self._max_units * 4096} pixels"
            )
            raise Failure("bad_input", f"{message} are accepted", {"pixels": call.width * call.height})
        _check_picture(call)
        if not Path(call.audio_path).is_file():
            raise Failure("environment", f"the audio {call.audio_path} is missing")
        samples = round(audio.duration_seconds(call.audio_path) * audio.SAMPLE_RATE)
        heard = audio.clips_of(samples)
        if heard < call.clips:
            numbers = {"audioClips": heard, "clips": call.clips}
            raise Failure("bad_input", f"the audio lasts for {heard} clips; the job has {call.clips}", numbers)

    def render(self, call: ModelCall, stage: Stage) -> None:
        assert self._wan is not None and self._checkout is not None
        memory.reset_gpu_peak(self.torch)
        try:
            self._generate(call, stage)
        finally:
            # A loop of its own would do for the good case; after an exception upstream's own clean-up never ran.
            wan = self._wan
            wan.kv_cache1 = wan.shared_cond_cache = wan.crossattn_cache = None
            wan._sampler_timesteps = wan._sampler_sigmas = None
            if self._decoder is not None:
                self._decoder.end()

    def settle(self) -> None:
        memory.give_back(self.torch)
        kept = memory.gpu_allocated(self.torch) - self._resting_bytes
        if self._wan is not None and kept > LEFTOVER_BYTES:
            numbers = {"keptBytes": float(kept), "restingBytes": float(self._resting_bytes)}
            raise Failure("crash", f"{kept} bytes of GPU memory stayed behind after a model call", numbers)

    def unload(self) -> int:
        self._wan = self._decoder = None
        for cache in (self._prompts, self._pictures, self._features):
            cache.clear()
        if self._checkout is not None:
            self.torch.compiler.reset()
            memory.give_back(self.torch)
            return memory.gpu_reserved(self.torch)
        return 0

    def usage(self) -> Usage:
        return Usage(memory.gpu_peak(self.torch), memory.gpu_reserved_peak(self.torch), memory.resident_bytes())

    def evidence(self) -> dict[str, float]:
        try:
            return memory.gpu_numbers(self.torch)
        except ImportError:
            return {}

    # A call

    def _generate(self, call: ModelCall, stage: Stage) -> None:
        decoder = self._decoder
        assert decoder is not None
        features = self._features_of(call)
        started = [False]

        def on_block(clip: int, block: int, latents: Any) -> None:
            if not started[0]:
                decoder.begin(self._motion_latents)
                started[0] = True
            stage.block(Block(clip, block, decoder.decode(latents)))

        with self._overrides(call, features):
            self._listen(call, stage, on_block, generate_arguments(call))

    def _listen(
        self,
        call: ModelCall,
        stage: Stage,
        on_block: Callable[[int, int, Any], None] | None,
        arguments: dict[str, Any],
    ) -> None:
        """Calls upstream's `generate()` until the stage closes the call."""
        assert self._checkout is not None
        listeners = hooks.Hooks(
            stage=stage,
            first=call.first,
            base_seed=call.base_seed,
            reproducibility=self._reproducibility,
            on_block=on_block,
        )
        with hooks.installed(self._checkout.pipeline, listeners), contextlib.suppress(CallClosed):
            self._wan.generate(**arguments)

    @contextlib.contextmanager
    def _overrides(self, call: ModelCall, features: audio.Features) -> Iterator[None]:
        """Puts what is cached in place of what upstream computes anew in every call."""
        wan, torch = self._wan, self.torch
        picture = f"{file_key(call.reference_path)} {call.width}x{call.height}"
        encode = wan.vae.encode

        def encode_audio(_path: str, _frames: int = CLIP_FRAMES, **_named: Any) -> tuple[Any, int]:
            first = call.first * CLIP_FRAMES
            return audio.LazyAudio(torch, features, first, wan.device, wan.param_dtype), MAX_CALL_CLIPS

        def encode_prompt(prompt: str, *_others: Any) -> tuple[Any, None]:
            context = self._context(prompt)
            # The last thing before the caches of the call are allocated, tens of gigabytes: what encoding the picture
            # left in the allocator would lie between them.
            memory.give_back(torch)
            return [text.to(wan.device) for text in context], None

        def encode_picture(videos: Any) -> Any:
            key = f"{picture} {videos.shape[2]}"
            latents = self._pictures.get(key, lambda: encode(videos))
            # The longest is the motion, the reference repeated.
            if videos.shape[2] > CLIP_FRAMES:
                self._motion_latents = torch.stack(latents)
            return latents

        def load_pose_cond(**named: Any) -> Any:
            # No pose: upstream multiplies this by zero. It depends on the size alone.
            key = f"pose {call.width}x{call.height}"
            wan.vae.encode = encode
            try:
                return self._pictures.get(key, lambda: type(wan).load_pose_cond(wan, **named))
            finally:
                wan.vae.encode = encode_picture

        wan.encode_audio, wan.encode_prompt, wan.load_pose_cond = encode_audio, encode_prompt, load_pose_cond
        wan.vae.encode = encode_picture
        try:
            yield
        finally:
            del wan.encode_audio, wan.encode_prompt, wan.load_pose_cond, wan.vae.encode
            self._motion_latents = None

    def _context(self, prompt: str) -> list[Any]:
        """The prompt's embedding, from the cache where it is there."""
        return self._prompts.get(text_key(prompt), lambda: self._encode_prompt(prompt))

    def _encode_prompt(self, prompt: str) -> list[Any]:
        """The prompt's embedding, on the host. The text encoder visits the GPU for it; its copy on the host stays."""
        wan, torch = self._wan, self.torch
        model = wan.text_encoder.model
        at_home = [(parameter, parameter.data) for parameter in model.parameters()]
        try:
            for parameter, data in at_home:
                parameter.data = data.to(wan.device)
            with torch.no_grad():
                return [text.cpu() for text in wan.text_encoder([prompt], wan.device)]
        finally:
            for parameter, data in at_home:
                parameter.data = data
            memory.give_back(torch)

    def _features_of(self, call: ModelCall) -> audio.Features:
        wan, torch = self._wan, self.torch

        def make() -> audio.Features:
            encoder = wan.audio_encoder
            encoder.model.to(device=wan.device, dtype=wan.param_dtype).requires_grad_(False).eval()
            try:
                if audio.duration_seconds(call.audio_path) <= audio.WHOLE_SECONDS:
                    with torch.no_grad():
                        embedding, clips = type(wan).encode_audio(wan, call.audio_path, CLIP_FRAMES)
                    return audio.from_embedding(torch, embedding, clips)
                return audio.in_windows(torch, encoder, audio.read_samples(call.audio_path), wan.device)
            finally:
                encoder.model.to("cpu")
                memory.give_back(torch)

        return self._features.get(file_key(call.audio_path), make)

    def _new_streaming_vae(self) -> Any:
        assert self._checkout is not None
        config = self._checkout.config
        return self._checkout.streaming_vae.WanVAE(
            vae_pth=str(self._options.ckpt_dir / config.vae_checkpoint),
            device=self._wan.device,
            dtype=self._wan.param_dtype,
        )


def generate_arguments(call: ModelCall) -> dict[str, Any]:
    """Arguments of upstream's `generate()`; those of its script, with the area that keeps the reference's size."""
    return {
        "input_prompt": call.prompt,
        "ref_image_path": call.reference_path,
        # Never opened: the features are computed. A "+" in a path would mean several speakers.
        "audio_path": "audio",
        "num_repeat": MAX_CALL_CLIPS,
        "max_area": call.width * call.height,
        "infer_frames": CLIP_FRAMES,
        "shift": 3,
        "sample_solver": "euler",
        "sampling_steps": call.sample_steps,
        "guide_scale": 0,
        "seed": call.base_seed + call.first,
        "offload_model": False,
        "num_gpus_dit": 1,
        "enable_vae_parallel": False,
        "enable_online_decode": False,
    }


def _check_picture(call: ModelCall) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(call.reference_path) as picture:
            size = picture.size
            if size == (call.width, call.height):
                picture.load()
    except FileNotFoundError as error:
        raise Failure("environment", f"the reference {call.reference_path} is missing") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise Failure("bad_input", f"the reference picture can't be read: {error}") from error
    if size != (call.width, call.height):
        numbers = {"width": size[0], "height": size[1]}
        message = f"the reference picture has {size[0]}x{size[1]}; {call.width}x{call.height} is accepted"
        raise Failure("bad_input", message, numbers)
