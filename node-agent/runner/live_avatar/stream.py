"""From latents to the bytes of frames, block by block, with upstream's streaming decoder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

#: Latents of the still reference with which the decoder is warmed up, as upstream's pipeline of GPUs does it. What they
#: decode to is thrown away.
WARM_UP_LATENTS = 7


class StreamDecoder:
    """A decoder whose caches go on from block to block, and from clip to clip."""

    def __init__(self, torch: Any, vae: Any) -> None:
        self._torch = torch
        self._vae = vae
        self._stream_decode = uncompiled_decode(vae)

    def begin(self, motion_latents: Any) -> None:
        """Begins a call: forgets the last one and takes in `motion_latents` [1, 16, >= 7, h, w]."""
        model = self._vae.model
        model.clear_cache_decode()
        model.first_decode = True
        self._decode(motion_latents[:, :, :WARM_UP_LATENTS])

    def decode(self, latents: Any) -> Callable[[], memoryview]:
        """
        Decodes a block [1, 16, 3, h, w] to 12 frames. Returns at once what waits for the device and gives their bytes.
        """
        return rgb_bytes(self._torch, self._decode(latents))

    def end(self) -> None:
        """Forgets the call."""
        model = self._vae.model
        model.clear_cache_decode()
        model.first_decode = True

    def _decode(self, latents: Any) -> Any:
        torch, vae = self._torch, self._vae
        with torch.no_grad():
            return self._stream_decode(latents.to(dtype=vae.dtype))[0]


def uncompiled_decode(vae: Any) -> Callable[[Any], Any]:
    """
    `vae.stream_decode` as it is written. With compilation on, upstream compiles it: dozens of variants for the states of
    its caches, minutes before the first frame of every picture size, for a quarter of a second in each clip.
    """
    # torch.compiler.disable would not do: what is compiled inside of it compiles all the same.
    original = getattr(vae.stream_decode, "_torchdynamo_orig_callable", None)
    return vae.stream_decode if original is None else functools.partial(original, vae)


def rgb_bytes(torch: Any, video: Any) -> Callable[[], memoryview]:
    """
    The frames of `video` [3, frames, height, width] in [-1, 1] as RGB bytes, frame by frame, row by row. To 8 bits as
    upstream's `save_video` does it: scaled to 255 and cut off.
    """
    levels = video.clamp(-1, 1).add(1).mul(0.5).mul(255).to(torch.uint8)
    frames = levels.permute(1, 2, 3, 0).contiguous()
    if not frames.is_cuda:
        return lambda: memoryview(frames.numpy())
    host = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(frames, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> memoryview:
        copied.synchronize()
        return memoryview(host.numpy())

    return wait
