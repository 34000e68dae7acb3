"""
Seconds per clip of upstream's `generate()` and of the runner, on the same loaded model in the same process.

A steady clip is the third or a later one: the first two still meet shapes for the first time. Of upstream it is the
sum of its parts, each timed with the device idle before and after: the transformer's calls in the last clip, one
deferred decode and one re-encode. Of the runner it is the time between the ends of two clips as they leave, socket
included; the transformer's and the decoder's own time come from events on the device, so that nothing is slowed down.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import equivalence
import rig
import upstream
from live_avatar.model import LiveAvatar


class Enough(Exception):
    """Ends a call of upstream's when everything was seen that repeats."""


def time_runner(engine: LiveAvatar, inputs: rig.Inputs, clips: int, steps: int) -> dict[str, Any]:
    """A span of so many clips."""
    lease = f"speed-{inputs.width}-{steps}-{time.monotonic()}"
    with _events(engine) as parts, rig.Rig(engine) as runner:
        arrived = runner.render(rig.request(inputs, lease, 0, clips, sampleSteps=steps))
    done = [each for each in arrived if each.message["type"] == "clip"]
    seconds = [later.at - earlier.at for earlier, later in zip(done, done[1:], strict=False)]
    steady = seconds[1:] or seconds
    per_clip = 4 * steps
    dit = parts["transformer"]()[-per_clip * len(steady) :]
    vae = parts["decoder"]()[-4 * len(steady) :]
    bare = (sum(dit) + sum(vae)) / len(steady)
    clip = statistics.mean(steady)
    frames = sum(each.message["count"] for each in arrived if each.message["type"] == "frames")
    return {
        "clips": clips,
        "frames": frames,
        "secondsPerClip": clip,
        "clipSeconds": [done[0].message["renderSeconds"], *seconds],
        "transformerSeconds": sum(dit) / len(steady),
        "decoderSeconds": sum(vae) / len(steady),
        "overheadShare": (clip - bare) / bare,
        "peakMemoryBytes": done[-1].message["peakMemoryBytes"],
        "reservedMemoryBytes": done[-1].message["reservedMemoryBytes"],
        "hostBytes": done[-1].message["hostBytes"],
        "firstFramesSeconds": arrived_after(arrived, "frames"),
    }


def arrived_after(arrived: list[rig.Arrived], kind: str) -> float:
    """Seconds from the span's start to its first message of a type."""
    first = next(each.at for each in arrived if each.message["type"] == kind)
    return first - arrived[0].at


def time_upstream(
    modules: upstream.Modules, engine: LiveAvatar, inputs: rig.Inputs, clips: int, steps: int, whole: bool, decode: bool
) -> dict[str, Any]:
    """
    A call of so many clips.

    @param whole to its end; otherwise it is left after the first deferred decode and re-encode
    @param decode otherwise it is left before them
    """
    wan, torch = engine._wan, modules.torch
    times: dict[str, list[float]] = {"transformer": [], "decode": [], "encode": []}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if name == "decode" and not decode:
                raise Enough
            torch.cuda.synchronize()
            began = time.monotonic()
            result = function(*arguments, **named)
            torch.cuda.synchronize()
            times[name].append(time.monotonic() - began)
            if name == "encode" and times["decode"] and not whole:
                raise Enough
            return result

        return call

    forward, vae_decode, vae_encode = wan.noise_model.forward, wan.vae.decode, wan.vae.encode
    wan.noise_model.forward = timed("transformer", forward)
    wan.vae.decode, wan.vae.encode = timed("decode", vae_decode), timed("encode", vae_encode)
    prompt = engine._prompts
    context = prompt.get("speed", lambda: engine._encode_prompt("A person talks"))
    wan.encode_prompt = lambda *_: ([each.to(wan.device) for each in context], None)
    began = time.monotonic()
    frames = None
    try:
        video, _ = wan.generate(**equivalence.upstream_arguments(inputs, clips, steps))
        frames = int(video.shape[1])
    except Enough:
        wan.kv_cache1 = wan.shared_cond_cache = wan.crossattn_cache = None
        wan._sampler_timesteps = wan._sampler_sigmas = None
    finally:
        wan.noise_model.forward = forward
        wan.vae.decode, wan.vae.encode = vae_decode, vae_encode
        del wan.encode_prompt
        # As upstream leaves it: on the host.
        wan.vae.model.to(wan.device)
    wall = time.monotonic() - began
    dit = sum(times["transformer"][-4 * steps :])
    result: dict[str, Any] = {"clips": clips, "frames": frames, "wallSeconds": wall, "transformerSeconds": dit}
    if decode:
        result["decodeSeconds"] = times["decode"][-1]
        result["encodeSeconds"] = times["encode"][-1]
        result["secondsPerClip"] = dit + times["decode"][-1] + times["encode"][-1]
    return result


@contextlib.contextmanager
def _events(engine: LiveAvatar) -> Iterator[dict[str, Callable[[], list[float]]]]:
    """Durations on the device of the transformer's calls (without prefills) and of the decoder's, in seconds."""
    torch, wan = engine.torch, engine._wan
    decoder = engine._decoder
    assert decoder is not None
    marks: dict[str, list[Any]] = {"transformer": [], "decoder": []}

    def marked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if named.get("sink_flag"):
                return function(*arguments, **named)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            result = function(*arguments, **named)
            end.record()
            marks[name].append((begin, end))
            return result

        return call

    forward, decode = wan.noise_model.forward, decoder.decode
    wan.noise_model.forward = marked("transformer", forward)
    decoder.decode = marked("decoder", decode)  # type: ignore[method-assign]

    def durations(name: str) -> list[float]:
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in marks[name]]

    try:
        yield {name: (lambda name=name: durations(name)) for name in marks}
    finally:
        wan.noise_model.forward = forward
        del decoder.decode
