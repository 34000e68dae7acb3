"""
Where upstream's `generate()` is listened to.

Upstream gives no hook in its loop, but it looks up three names of its module whenever it needs them:

- `tqdm`, called once for every block with the list of timesteps, before anything of the block is computed. In its place
  stands a generator that knows the clip, the block and the step, asks whether the clip may begin, seeds what the step
  draws, and leaves `generate()` by an exception when the call is over.
- `FlowMatchEulerDiscreteScheduler`, whose `step` makes the latents of the next step; that of the last step is the
  finished block.
- `torch`, of which the call sees a namespace where noise is drawn on the host, and where a counter that upstream keeps
  on the GPU, and reads 40 times in every forward pass, is on the host too.

Nothing of the checkout is edited, and the names are put back after the call.
"""

from __future__ import annotations

import contextlib
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import seeds
from .engine import Stage
from .failures import Failure
from .span import BLOCKS


@dataclass(frozen=True)
class Reproducibility:
    """
    How randomness is drawn. As it is here for rendering. Both False, it is upstream's own: noise from the GPU's
    generator, and Python's global generator left alone, which is how the proof of equality runs.
    """

    host_noise: bool = True
    seeded_sampler: bool = True


@dataclass(frozen=True)
class Hooks:
    """What a call listens with."""

    stage: Stage
    #: First clip of the call.
    first: int
    base_seed: int
    reproducibility: Reproducibility
    #: Takes clip, block and latents [1, 16, 3, h, w]; None where another rank has them.
    on_block: Callable[[int, int, Any], None] | None


@contextlib.contextmanager
def installed(pipeline: Any, hooks: Hooks) -> Iterator[None]:
    """Listens to the `generate()` calls that are made meanwhile with this pipeline module."""
    original = (pipeline.tqdm, pipeline.FlowMatchEulerDiscreteScheduler, pipeline.torch)
    finished: list[Any] = []
    pipeline.FlowMatchEulerDiscreteScheduler = _listening_scheduler(original[1], finished)
    pipeline.tqdm = _Blocks(hooks, finished)
    pipeline.torch = _namespace(original[2], hooks.reproducibility)
    try:
        yield
    finally:
        pipeline.tqdm, pipeline.FlowMatchEulerDiscreteScheduler, pipeline.torch = original


class _Blocks:
    """In place of `tqdm`: called for block after block, clip after clip."""

    def __init__(self, hooks: Hooks, finished: list[Any]) -> None:
        self._hooks = hooks
        self._finished = finished
        self._count = 0

    def __call__(self, timesteps: Iterable[Any]) -> Iterator[Any]:
        clip = self._hooks.first + self._count // BLOCKS
        block = self._count % BLOCKS
        self._count += 1
        return self._steps(clip, block, timesteps)

    def _steps(self, clip: int, block: int, timesteps: Iterable[Any]) -> Iterator[Any]:
        hooks = self._hooks
        if block == 0:
            _drop_finished_clips()
            hooks.stage.begin_clip(clip)
        steps = list(timesteps)
        for step, timestep in enumerate(steps):
            hooks.stage.check()
            hooks.stage.step(clip, (block + step / len(steps)) / BLOCKS)
            if hooks.reproducibility.seeded_sampler:
                random.seed(seeds.sampler_seed(hooks.base_seed, clip, block, step))
            yield timestep
        if hooks.on_block is not None:
            hooks.on_block(clip, block, self._finished[-1])
        self._finished.clear()


def _drop_finished_clips() -> None:
    """
    Empties the lists in which `generate()` collects what it would decode, or has decoded, at its end: megabytes for
    each clip, for hours. They are local variables; a list can be emptied by anyone who finds it.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "generate":
        frame = frame.f_back  # type: ignore[assignment]
    names = () if frame is None else frame.f_locals
    collected = [names[name] for name in ("out", "clip_outputs") if name in names]
    if not collected or not all(isinstance(each, list) for each in collected):
        raise Failure("environment", "generate() of the checkout keeps its clips elsewhere; memory would grow")
    for each in collected:
        each.clear()


def _listening_scheduler(base: type, finished: list[Any]) -> type:
    class ListeningScheduler(base):  # type: ignore[misc, valid-type]
        """
        Upstream's scheduler, with its timesteps on the host: building a step's input reads them one by one. The noise
        levels stay on the GPU. A number on the host would not be rounded to bf16 before it is multiplied with.
        """

        def set_timesteps(self, *arguments: Any, **named: Any) -> None:
            super().set_timesteps(*arguments, **named)
            self.timesteps: Any = self.timesteps.cpu()

        def step(self, *arguments: Any, **named: Any) -> Any:
            result = super().step(*arguments, **named)
            finished[:] = [result[0]]
            return result

    return ListeningScheduler


def _namespace(torch: Any, reproducibility: Reproducibility) -> types.ModuleType:
    """`torch` as the call sees it."""
    namespace = types.ModuleType("torch")

    def randn(*shape: Any, **named: Any) -> Any:
        generator = named.get("generator")
        if generator is None or not reproducibility.host_noise:
            return torch.randn(*shape, **named)
        return seeds.host_noise(torch, shape, generator.initial_seed(), named["dtype"], named["device"])

    def tensor(data: Any, **named: Any) -> Any:
        if data == [0] and named.get("dtype") is torch.long:
            named["device"] = "cpu"
        return torch.tensor(data, **named)

    def fallback(name: str) -> Any:
        return getattr(torch, name)

    namespace.randn = randn  # type: ignore[attr-defined]
    namespace.tensor = tensor  # type: ignore[attr-defined]
    namespace.__getattr__ = fallback  # type: ignore[method-assign]
    return namespace
