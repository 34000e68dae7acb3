"""The engine over five GPUs: what every rank does with upstream's pipeline, and what rank 0 does beyond that."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from . import memory
from .engine import ModelCall, Stage, Usage
from .failures import Failure
from .model import LiveAvatar, generate_arguments
from .options import Options
from .ranks import DECODER, Follower, Followers, Frames, Group, SharedStage
from .span import BLOCKS
from .stream import WARM_UP_LATENTS, rgb_bytes, uncompiled_decode

#: Upstream's conditioning cache has room for 3000 tokens here; a picture of u blocks of 64x64 pixels needs 40 u.
MAX_UNITS = 75
#: Steps and ranks that denoise are the same in upstream's pipeline.
STEPS = 4


class PipelineRank(LiveAvatar):
    """One rank. The ranks call its methods together."""

    _max_units = MAX_UNITS

    def __init__(self, options: Options, rank: int, frames: Frames | None = None) -> None:
        super().__init__(options)
        self._rank = rank
        self._frames = frames
        self.group: Group | None = None

    def load(self, report: Callable[[str, float], None]) -> int:
        if self.torch.cuda.is_available():
            self.torch.cuda.set_device(self._rank)
        return super().load(report)

    def _generate(self, call: ModelCall, stage: Stage | None) -> None:
        assert self.group is not None
        vae = self._wan.vae
        with self._overrides(call, self._features_of(call)):
            if self._frames is not None:
                vae.stream_decode = self._emitting(call, vae, self._frames)
            try:
                arguments = {**generate_arguments(call), "num_gpus_dit": STEPS, "enable_vae_parallel": True}
                self._listen(call, SharedStage(self.group, stage), None, arguments)
            finally:
                if self._frames is not None:
                    del vae.stream_decode
                    self._frames.end()

    def _context(self, prompt: str) -> list[Any]:
        assert self.group is not None
        return self.group.tell(super()._context(prompt) if self._rank == 0 else None)

    def _emitting(self, call: ModelCall, vae: Any, frames: Frames) -> Callable[[Any], list[Any]]:
        """In place of `stream_decode`: frames go to rank 0 at once, upstream gets to keep none."""
        torch, decode = self.torch, uncompiled_decode(vae)
        count = 0

        def stream_decode(latents: Any) -> list[Any]:
            nonlocal count
            if latents.shape[2] == WARM_UP_LATENTS:
                # Upstream's caches begin anew when the reference is encoded, which the cache of pictures spares.
                vae.model.clear_cache_decode()
                vae.model.first_decode = True
                return decode(latents)
            rgb = rgb_bytes(torch, decode(latents)[0])
            frames.send(call.first + count // BLOCKS, count % BLOCKS, rgb())
            count += 1
            # As many frames as upstream cuts from, of one pixel.
            return [torch.zeros((3, 12, 1, 1))]

        return stream_decode


class PipelineLeader(PipelineRank):
    """Rank 0, which speaks with the agent."""

    def __init__(self, options: Options, command: list[str]) -> None:
        """@param command starts another rank, which finds out from its environment which one it is"""
        super().__init__(options, 0)
        self._command = command
        self._followers: Followers | None = None
        self._failed = False

    def check(self, call: ModelCall) -> None:
        if self._failed:
            raise Failure("crash", "the ranks are out of step since one of them failed")
        if call.sample_steps != STEPS:
            numbers = {"sampleSteps": call.sample_steps}
            raise Failure("bad_input", f"sampleSteps is {call.sample_steps}; five GPUs make {STEPS}", numbers)
        super().check(call)

    def load(self, report: Callable[[str, float], None]) -> int:
        if self._followers is None:
            report("starting ranks", 0.0)
            self._followers = Followers(self._command)
            self._followers.watch(self._rank_ended)
            self.group = Group(0, self._followers.store)
        assert self.group is not None
        self.group.tell(("load", None))
        used = super().load(report)
        self.group.meet()
        return self._followers.peaks(used, used)[0]

    def render(self, call: ModelCall, stage: Stage) -> None:
        assert self.group is not None and self._followers is not None
        self.group.tell(("render", call))
        relay = threading.Thread(target=self._followers.relay, args=(stage,), name="frames", daemon=True)
        relay.start()
        try:
            super().render(call, stage)
        except Exception:
            self._failed = True
            raise
        # The last frames are still on their way; what the session does next comes after them.
        relay.join()

    def unload(self) -> int:
        if self.group is None or self._followers is None:
            return super().unload()
        self.group.tell(("unload", None))
        held = super().unload()
        self.group.meet()
        return self._followers.peaks(held, held)[0]

    def usage(self) -> Usage:
        own = super().usage()
        if self._followers is None:
            return own
        peak, reserved = self._followers.peaks(own.peak_memory_bytes, own.reserved_memory_bytes)
        host = memory.resident_bytes(self._followers.pids)
        return replace(own, peak_memory_bytes=peak, reserved_memory_bytes=reserved, host_bytes=host)

    def _rank_ended(self, rank: int, status: int) -> None:
        print(
            f"live-avatar runner: rank {rank} ended with status {status}; so do the others", file=sys.stderr, flush=True
        )
        os._exit(1)


class ReportingFollower(PipelineRank):
    """Ranks 1 to 4: rank 0's commands, one after another."""

    def __init__(self, options: Options, place: Follower) -> None:
        super().__init__(options, place.rank, place.frames if place.rank == DECODER else None)
        self._place = place

    def follow(self) -> None:
        """Obeys until rank 0 is gone."""
        self.group = self._place.join()
        while True:
            command, call = self.group.tell()
            if command == "load":
                used = self.load(lambda _phase, _fraction: None)
                self._place.tell_peaks(used, used)
                self.group.meet()
            elif command == "unload":
                held = self.unload()
                self._place.tell_peaks(held, held)
                self.group.meet()
            else:
                self.render(call, None)
                self.settle()

    def render(self, call: ModelCall, stage: Stage | None) -> None:
        stop = threading.Event()
        teller = threading.Thread(target=self._tell_peaks, args=(stop,), daemon=True)
        teller.start()
        try:
            super().render(call, stage)  # type: ignore[arg-type]
        finally:
            stop.set()
            teller.join()

    def _tell_peaks(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            self._place.tell_peaks(memory.gpu_peak(self.torch), memory.gpu_reserved_peak(self.torch))


def follow(options: Options, place: Follower) -> int:
    """The whole life of a rank other than 0."""
    place.die_with_parent()
    ReportingFollower(options, place).follow()
    return 0
