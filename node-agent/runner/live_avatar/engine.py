"""What the session needs of a model, and what a model gets from the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class CallClosed(BaseException):
    """
    Leaves upstream's `generate()`. Not an `Exception`, so that nothing between the hook and the caller takes it for a
    failure and swallows it.
    """


@dataclass(frozen=True)
class ModelCall:
    """One continuous call of the model: clips from `first` on, until it is closed."""

    first: int
    #: Clips of the whole job.
    clips: int
    #: Pixels.
    width: int
    height: int
    sample_steps: int
    base_seed: int
    prompt: str
    reference_path: str
    audio_path: str


@dataclass(frozen=True)
class Block:
    """Twelve frames of a clip. `rgb` waits for the device and gives their bytes, frame by frame, row by row."""

    clip: int
    block: int
    rgb: Callable[[], memoryview | bytes]


class Stage(Protocol):
    """The session's side of a running call. Its methods are called in the model's thread."""

    def begin_clip(self, clip: int) -> None:
        """Returns when the clip may begin, which may take as long as the call is held open. Throws CallClosed."""

    def check(self) -> None:
        """Throws CallClosed once the clip in hand is not wanted any more."""

    def step(self, clip: int, fraction: float) -> None:
        """A denoising step is about to run; `fraction` of the clip is done."""

    def block(self, block: Block) -> None:
        """Takes a finished block. Waits while the agent is behind."""


@dataclass(frozen=True)
class Usage:
    """
    Bytes: most GPU memory needed since the call began, the same with what the allocator holds in reserve, and resident set
    of the runner, all ranks.
    """

    peak_memory_bytes: int
    reserved_memory_bytes: int
    host_bytes: int


class Engine(Protocol):
    """A model. Everything but `usage` and `versions` is called in one thread. Methods throw what `classify` understands."""

    def versions(self) -> dict[str, str]:
        """What renders, by name: at most 32 entries."""

    def check(self, call: ModelCall) -> None:
        """Throws Failure for a call that can't be made, before GPU time is spent."""

    def load(self, report: Callable[[str, float], None]) -> int:
        """Loads the model; `report` takes phase and fraction. Returns GPU bytes in use."""

    def render(self, call: ModelCall, stage: Stage) -> None:
        """Makes clips until `stage` throws CallClosed, then returns."""

    def settle(self) -> None:
        """After a call, also one that failed: gives its memory back, and throws Failure `crash` if some stays."""

    def unload(self) -> int:
        """Forgets the model and every cache. Returns GPU bytes that the process still holds."""

    def usage(self) -> Usage:
        """Memory now."""

    def evidence(self) -> dict[str, float]:
        """Numbers about the device, for failures; empty when it can't be asked."""
