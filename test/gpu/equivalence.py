"""
Equality with upstream: the same loaded model is called once by upstream's own `generate()`, untouched, and once by the
runner.

With upstream's own randomness (noise from the device's generator with upstream's seeds, Python's generator seeded with
the same number before both), latents must be equal bit for bit. Frames can't be: upstream decodes each clip after a
re-encoding of the 365 frames before it, the runner goes on where it was. Their agreement is given as PSNR. With the
runner's own randomness, the same leases cut differently must give the same frames.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from typing import Any

import rig
import upstream
from live_avatar.hooks import Reproducibility
from live_avatar.model import LiveAvatar

SEED = 20260726


@contextlib.contextmanager
def captured_latents(pipeline: Any, steps: int) -> Iterator[list[Any]]:
    """Finished blocks of the `generate()` calls made meanwhile, as they are."""
    original = pipeline.FlowMatchEulerDiscreteScheduler
    blocks: list[Any] = []
    count = [0]

    class Capturing(original):  # type: ignore[misc, valid-type]
        def step(self, *arguments: Any, **named: Any) -> Any:
            result = super().step(*arguments, **named)
            count[0] += 1
            if count[0] % steps == 0:
                blocks.append(result[0].detach().cpu().clone())
            return result

    pipeline.FlowMatchEulerDiscreteScheduler = Capturing
    try:
        yield blocks
    finally:
        pipeline.FlowMatchEulerDiscreteScheduler = original


def upstream_arguments(inputs: rig.Inputs, clips: int, steps: int, **changes: Any) -> dict[str, Any]:
    """Arguments of `generate()` as upstream's single-GPU script gives them."""
    request = rig.request(inputs, "", 0, clips)
    return {
        "input_prompt": request["prompt"],
        "ref_image_path": request["referencePath"],
        "audio_path": request["audioPath"],
        "num_repeat": clips,
        "generate_size": None,
        "max_area": inputs.width * inputs.height,
        "infer_frames": 48,
        "shift": 3,
        "sample_solver": "euler",
        "sampling_steps": steps,
        "guide_scale": 0,
        "seed": request["baseSeed"],
        "offload_model": True,
        "num_gpus_dit": 1,
        "enable_vae_parallel": False,
        "enable_online_decode": False,
        **changes,
    }


class _Enough(Exception):
    """Leaves upstream's call before its deferred decode."""


def run_upstream(
    modules: upstream.Modules, wan: Any, arguments: dict[str, Any], decode: bool = True
) -> tuple[Any, list[Any]]:
    """Upstream's video [3, frames, height, width], None without decoding, and its blocks."""

    def leave(_latents: Any) -> Any:
        raise _Enough

    random.seed(SEED)
    video = None
    if not decode:
        wan.vae.decode = leave
    with captured_latents(modules.pipeline, arguments["sampling_steps"]) as blocks:
        try:
            video, _ = wan.generate(**arguments)
        except _Enough:
            wan._sampler_timesteps = wan._sampler_sigmas = None
            del wan.vae.decode
    wan.kv_cache1 = wan.shared_cond_cache = wan.crossattn_cache = None
    wan.vae.model.to(wan.device)
    return video, blocks


def compare(
    modules: upstream.Modules, engine: LiveAvatar, inputs: rig.Inputs, clips: int, steps: int
) -> dict[str, Any]:
    """Latents and frames of both."""
    torch = modules.torch
    theirs, their_blocks = run_upstream(modules, engine._wan, upstream_arguments(inputs, clips, steps))
    _, again = run_upstream(modules, engine._wan, upstream_arguments(inputs, clips, steps), decode=False)
    repeated = sum(torch.equal(a, b) for a, b in zip(their_blocks, again, strict=True))
    engine._reproducibility = Reproducibility(host_noise=False, seeded_sampler=False)
    # Listening ends before capturing does: both stand in for the same name.
    with captured_latents(modules.pipeline, steps) as blocks, rig.Rig(engine, keep="bytes") as runner:
        random.seed(SEED)
        arrived = runner.render(rig.request(inputs, "equal", 0, clips, sampleSteps=steps))
    engine._reproducibility = Reproducibility()
    same = [torch.equal(a, b) for a, b in zip(their_blocks, blocks[: len(their_blocks)], strict=True)]
    finite = all(bool(torch.isfinite(block.float()).all()) for block in blocks)
    ours = b"".join(each.payload for each in arrived)
    frames = len(ours) // (inputs.width * inputs.height * 3)
    pixels = torch.frombuffer(bytearray(ours), dtype=torch.uint8).view(frames, inputs.height, inputs.width, 3)
    levels = theirs.clamp(-1, 1).add(1).mul(0.5).mul(255).to(torch.uint8).permute(1, 2, 3, 0)
    long_warm_up = _first_clip(torch, engine, blocks[:4])
    return {
        "picture": f"{inputs.width}x{inputs.height}",
        "clips": clips,
        "steps": steps,
        "blocks": len(their_blocks),
        "blocksEqualBitForBit": sum(same),
        "blocksThatUpstreamRepeats": repeated,
        "latentsFinite": finite,
        "latentsStandardDeviation": float(torch.stack([block.float() for block in blocks]).std()),
        "framesUpstream": int(theirs.shape[1]),
        "framesRunner": frames,
        "psnrByClip": [
            _psnr(levels[max(0, 48 * clip - 3) : 48 * clip + 45], pixels[max(0, 48 * clip - 3) : 48 * clip + 45])
            for clip in range(clips)
        ],
        "psnrFirstClipWarmedUpAsUpstream": _psnr(levels[:45], long_warm_up),
        "levelsStandardDeviation": float(levels.float().std()),
    }


def _first_clip(torch: Any, engine: LiveAvatar, blocks: list[Any]) -> Any:
    """The first clip's frames from the runner's decoder, warmed up with all 92 latents of upstream's decode, not 7."""
    from live_avatar import stream

    decoder = engine._decoder
    assert decoder is not None
    motion = next(value for key, value in engine._pictures._values.items() if key.endswith(" 365"))
    usual, stream.WARM_UP_LATENTS = stream.WARM_UP_LATENTS, 92
    try:
        with torch.no_grad():
            decoder.begin(torch.stack(motion))
            frames = [bytearray(decoder.decode(block.to(engine._wan.device))().cast("B")) for block in blocks]
    finally:
        stream.WARM_UP_LATENTS = usual
        decoder.end()
    height, width = blocks[0].shape[-2] * 8, blocks[0].shape[-1] * 8
    video = torch.frombuffer(bytearray().join(frames), dtype=torch.uint8)
    return video.view(-1, height, width, 3)[3:]


def cut_differently(engine: LiveAvatar, inputs: rig.Inputs) -> dict[str, Any]:
    """Three clips as one lease, and as a lease of two continued by one of one: hashes of every message of frames."""
    with rig.Rig(engine, keep="hash") as runner:
        whole = runner.render(rig.request(inputs, "whole", 0, 3))
        first = runner.render(rig.request(inputs, "first", 0, 2))
        second = runner.render(rig.request(inputs, "second", 2, 3, continues="first"))
    continued = next(each.message["continued"] for each in second if each.message["type"] == "spanStarted")
    hashes = [each.sha256 for each in whole if each.sha256]
    parts = [each.sha256 for each in [*first, *second] if each.sha256]
    return {"continued": continued, "messages": len(hashes), "equal": hashes == parts}


def _psnr(a: Any, b: Any) -> float:
    error = float((a.float().cpu() - b.float().cpu()).pow(2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def online_frames(modules: upstream.Modules, engine: LiveAvatar, inputs: rig.Inputs) -> dict[str, int]:
    """Frames of two clips with upstream's `--enable_online_decode`, which decodes the first clip early."""
    arguments = upstream_arguments(inputs, 2, 4, enable_online_decode=True)
    video, _ = run_upstream(modules, engine._wan, arguments)
    return {"clips": 2, "frames": int(video.shape[1])}
