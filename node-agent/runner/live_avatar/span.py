"""
What is wanted of an open model call, and what it has done: plain data and decisions, no threads, no I/O.

A model call makes clips one after another, in blocks, until it is closed. Leases of one job follow each other in it.
Two places ask: the call's beginning of a clip (`may_start`) and the end of the pipeline, where frames leave
(`block_done`). With one GPU both are in the same clip; with a pipeline of GPUs the first is ahead of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .protocol import SpanRequest

CLIP_FRAMES = 48
BLOCK_FRAMES = 12
BLOCKS = CLIP_FRAMES // BLOCK_FRAMES
#: Frames that upstream drops from the beginning of every model call.
LOST_FRAMES = 3
#: Clips that one model call can hold: its table of rotary positions ends at 45000 latents, and the sink is placed up to
#: 30 latents ahead of a clip's 12. Beyond it a device-side assert would kill the process.
MAX_CALL_CLIPS = (45000 - 30) // 12

EndReason = Literal["completed", "stopped", "cancelled"]


@dataclass(frozen=True)
class BlockPlace:
    """Where the frames of a block belong: message fields of `frames`, and how many frames to drop in front."""

    lease_id: str
    produced: int
    count: int
    drop: int


@dataclass(frozen=True)
class SpanEnd:
    """How a span ended; `end` is one past its last whole clip."""

    lease_id: str
    reason: EndReason
    end: int


class CallState:
    """An open model call. Not safe for threads; the session guards it."""

    def __init__(self, request: SpanRequest) -> None:
        self.request = request
        self.first = request.first
        #: One past the last clip that the model was allowed to begin.
        self.granted = self.first
        #: One past the last clip of which every block has left.
        self.done = self.first
        self.closed = False
        self.last_lease: str | None = None
        self._base = self.first
        self._lost = LOST_FRAMES
        self._span: SpanRequest | None = request
        self._end = request.end
        self._cancelled = False

    @property
    def span(self) -> SpanRequest | None:
        """The span that is being rendered, or None while the call is held open."""
        return self._span

    @property
    def cancelled(self) -> bool:
        """True once the running span was cancelled: what is left of the clip in hand is not wanted."""
        return self._cancelled

    def continues(self, request: SpanRequest) -> bool:
        """True when the held call can go on with `request` as if it were one span."""
        return (
            not self.closed
            and self._span is None
            and request.continues is not None
            and request.continues == self.last_lease
            and request.start == self.done == self.granted
            and request.end - self.first <= MAX_CALL_CLIPS
            and request.same_work(self.request)
        )

    def go_on(self, request: SpanRequest) -> None:
        """Renders `request` in this call, from its `start` on and without a pre-roll."""
        assert self.continues(request)
        self._span = request
        self._end = request.end
        self._base = request.start
        self._lost = 0

    def may_start(self, clip: int) -> Literal["go", "wait", "stop"]:
        """Whether the model may begin a clip; `go` counts it as begun."""
        assert clip == self.granted, f"clip {clip} begins after clip {self.granted - 1}"
        if self.closed or self._cancelled:
            return "stop"
        if self._span is None or clip >= self._end:
            return "wait"
        self.granted = clip + 1
        return "go"

    def set_end(self, end: int) -> None:
        """Moves the end of the running span: at most to the job's end, and never before a clip that has begun."""
        assert self._span is not None
        self._end = max(min(end, self._span.clips, self.first + MAX_CALL_CLIPS), self.granted)

    def cancel(self) -> None:
        """Stops the running span. The call ends with it: its clip in hand stays half made."""
        assert self._span is not None
        self._cancelled = True

    def place(self, clip: int, block: int) -> BlockPlace | None:
        """Where a finished block goes; None when nobody wants it any more."""
        if self._span is None or self._cancelled:
            return None
        in_call = (clip - self._base) * CLIP_FRAMES + block * BLOCK_FRAMES - self._lost
        produced = max(0, in_call)
        count = in_call + BLOCK_FRAMES - produced
        return BlockPlace(self._span.lease_id, produced, count, BLOCK_FRAMES - count)

    def clip_done(self, clip: int) -> None:
        """Every block of a clip has left."""
        assert clip == self.done
        self.done = clip + 1

    def finish(self) -> SpanEnd | None:
        """The end of the running span if it is over now. The call is held open then, unless it was cancelled."""
        span = self._span
        if span is None:
            return None
        if self._cancelled:
            self.closed = True
            return self._ended(span, "cancelled")
        if self.done < self._end:
            return None
        return self._ended(span, "completed" if self.done >= span.end else "stopped")

    def _ended(self, span: SpanRequest, reason: EndReason) -> SpanEnd:
        self._span = None
        self.last_lease = span.lease_id
        return SpanEnd(span.lease_id, reason, self.done)
