"""
The conversation with one agent.

Three threads: the reader (this one), which takes messages and never waits for the model; the model's, in which every
call of the engine runs; and the outbox'. What they share is the state of the open call, under one lock.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .engine import Block, CallClosed, Engine, ModelCall
from .failures import FATAL, Failure, classify
from .outbox import Gone, Outbox
from .protocol import SpanRequest, span_request
from .span import BLOCKS, MAX_CALL_CLIPS, CallState

Result = TypeVar("Result")

#: Seconds that a model call is held open for a lease that continues it: it keeps tens of gigabytes of GPU memory.
HOLD_SECONDS = 120.0


class Session:
    """Loads once, then renders span after span. `serve` returns when the agent says goodbye or is gone."""

    def __init__(self, engine: Engine, outbox: Outbox, hold_seconds: float = HOLD_SECONDS) -> None:
        self._engine = engine
        self._outbox = outbox
        self._hold_seconds = hold_seconds
        self._lock = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._loaded = False
        self._fatal: Failure | None = None
        #: The call in which the model is, or that it holds open.
        self._call: CallState | None = None
        #: The call that begins when the model's thread is free for it.
        self._next: CallState | None = None
        self._reported = False
        outbox.on_error(self._emission_failed)
        threading.Thread(target=self._run_jobs, name="model", daemon=True).start()

    def serve(self, messages: Iterable[tuple[dict[str, Any], bytes]]) -> None:
        """Answers messages until `shutdown` or the end of the connection. Throws ProtocolError."""
        for message, _payload in messages:
            if message["type"] == "shutdown":
                return
            self.handle(message)

    def handle(self, message: dict[str, Any]) -> None:
        """Takes a message; the answers come when they come."""
        kind = message["type"]
        if kind == "load":
            self._between_calls(self._load)
        elif kind == "unload":
            self._between_calls(self._unload)
        elif kind == "render":
            self._render(span_request(message.get("request")))
        elif kind in ("setEnd", "cancel"):
            self._change(message)
        # Anything else is from a newer agent, which does without an answer.

    # Loading

    def _load(self) -> None:
        began = time.monotonic()
        memory = self._attempt(lambda: self._engine.load(self._report_loading))
        with self._lock:
            self._loaded = memory is not None
            usable = self._fatal is None
        if memory is not None:
            self._outbox.put({"type": "loaded", "seconds": time.monotonic() - began, "memoryBytes": memory})
        elif usable:
            # Half a model is of no use, and in the way of the next attempt.
            self._attempt(self._engine.unload)

    def _report_loading(self, phase: str, fraction: float) -> None:
        self._outbox.put({"type": "loading", "phase": phase, "fraction": min(1.0, max(0.0, fraction))})

    def _unload(self) -> None:
        held = self._attempt(self._engine.unload)
        if held is None:
            return
        with self._lock:
            self._loaded = False
        self._outbox.put({"type": "unloaded", "memoryBytes": held})

    # Spans

    def _render(self, request: SpanRequest) -> None:
        with self._lock:
            call = self._call
            if call is not None and call.continues(request):
                call.go_on(request)
                self._outbox.put({"type": "spanStarted", "leaseId": request.lease_id, "continued": True})
                self._lock.notify_all()
                return
            refusal = self._refusal(request)
            call = CallState(request)
            if refusal is None:
                self._next = call
        if refusal is not None:
            self._outbox.put({"type": "error", **refusal.message_fields(request.lease_id)})
            return
        self._between_calls(lambda: self._open(call))

    def _refusal(self, request: SpanRequest) -> Failure | None:
        if self._fatal is not None:
            return self._fatal
        for call in (self._call, self._next):
            if call is not None and call.span is not None:
                message = f"lease {call.span.lease_id} is being rendered; one span at a time is accepted"
                return Failure("bad_input", message)
        if not request.first >= 0 or not request.start < request.end <= request.clips:
            return Failure("bad_input", f"clips {request.start} to {request.end} of {request.clips} are no span")
        if (request.pre_roll == 0) != (request.start == 0):
            return Failure("bad_input", f"preRoll is {request.pre_roll} for a span from clip {request.start}")
        if not 1 <= request.sample_steps <= 4:
            return Failure("bad_input", f"sampleSteps is {request.sample_steps}; 1 to 4 are accepted")
        clips = request.end - request.first
        if clips > MAX_CALL_CLIPS:
            message = f"a span of {clips} clips with its pre-roll; one model call holds {MAX_CALL_CLIPS}"
            return Failure("bad_input", message, {"clips": clips, "maxClips": MAX_CALL_CLIPS})
        return None

    def _open(self, call: CallState) -> None:
        request = call.request
        with self._lock:
            self._next = None
            if call.closed:
                return
            self._call = call
            self._reported = False
        try:
            if not self._loaded:
                raise Failure("environment", "the model is not loaded")
            model_call = _model_call(request)
            stage = _Stage(self, call)
            self._engine.check(model_call)
            self._outbox.put({"type": "spanStarted", "leaseId": request.lease_id, "continued": False})
            self._engine.render(model_call, stage)
        except Exception as error:
            self._call_failed(call, error)
        with self._lock:
            call.closed = True
            self._call = None
            usable = self._fatal is None
        # Not while the exception is at hand: its traceback holds on to what the call had.
        if usable:
            self._attempt(self._engine.settle)

    def _change(self, message: dict[str, Any]) -> None:
        with self._lock:
            for call in (self._call, self._next):
                if call is None or call.span is None or call.span.lease_id != message.get("leaseId"):
                    continue
                if message["type"] == "cancel":
                    # Confirmed at once, not after the step in hand: nothing of the lease is sent after it.
                    call.cancel()
                else:
                    call.set_end(int(message.get("end", call.span.end)))
                self._end_if_over(call)
            self._lock.notify_all()

    def _end_if_over(self, call: CallState) -> None:
        """With the lock held: reports a span that is over."""
        end = call.finish()
        if end is None:
            return
        self._outbox.put({"type": "spanEnded", "leaseId": end.lease_id, "reason": end.reason, "end": end.end})

    # Failures

    def _call_failed(self, call: CallState, error: BaseException) -> None:
        with self._lock:
            span = call.span
            lease = None if span is None else span.lease_id
            clip = call.done
            call.closed = True
            if span is not None:
                call.cancel()
                call.finish()
            already = self._reported
            self._reported = True
        if not already:
            self._fail(lease, error, {"clip": clip})

    def _emission_failed(self, error: BaseException) -> None:
        """The outbox could not get the frames of a block: the device failed after the model's thread went on."""
        with self._lock:
            call = self._call
            self._lock.notify_all()
        if call is not None:
            self._call_failed(call, error)

    def _attempt(self, action: Callable[[], Result]) -> Result | None:
        """What `action` returns, or None when it failed, which is reported."""
        try:
            return action()
        except Exception as error:
            self._fail(None, error)
            return None

    def _fail(self, lease: str | None, error: BaseException, numbers: dict[str, float] | None = None) -> None:
        if not isinstance(error, Failure):
            traceback.print_exception(error, file=sys.stderr)
        failure = classify(error, {**self._engine.evidence(), **(numbers or {})})
        if failure.error_class in FATAL:
            with self._lock:
                self._fatal = failure
        self._outbox.put({"type": "error", **failure.message_fields(lease)})

    # The model's thread

    def _between_calls(self, job: Callable[[], None]) -> None:
        """Runs a job in the model's thread; closes a call that is held open."""
        with self._lock:
            if self._call is not None and self._call.span is None:
                self._call.closed = True
            self._jobs.append(job)
            self._lock.notify_all()

    def _run_jobs(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: len(self._jobs) > 0)
                job = self._jobs.popleft()
            try:
                job()
            except Gone:
                return


class _Stage:
    """The model's side of a call: what `generate()` is made to ask and to tell."""

    def __init__(self, session: Session, call: CallState) -> None:
        self._session = session
        self._call = call
        #: When the first clip began, or the first after a hold.
        self._resumed = 0.0
        self._last_clip = 0.0

    def begin_clip(self, clip: int) -> None:
        session, call = self._session, self._call
        with session._lock:
            waited = clip == call.first
            deadline = time.monotonic() + session._hold_seconds
            while (answer := call.may_start(clip)) == "wait":
                waited = True
                if call.span is not None:
                    # The last frames are still on their way to the agent; the hold begins after them.
                    deadline = time.monotonic() + session._hold_seconds
                elif time.monotonic() >= deadline:
                    call.closed = True
                session._lock.wait(0 if call.closed else session._hold_seconds)
            if answer == "stop":
                raise CallClosed
            if waited:
                self._resumed = time.monotonic()

    def check(self) -> None:
        with self._session._lock:
            if self._call.cancelled or self._call.closed:
                raise CallClosed

    def step(self, clip: int, fraction: float) -> None:
        with self._session._lock:
            span = self._call.span
            if span is None or self._call.cancelled:
                return
        self._session._outbox.put({"type": "progress", "leaseId": span.lease_id, "clip": clip, "fraction": fraction})

    def block(self, block: Block) -> None:
        def message() -> dict[str, Any] | None:
            with self._session._lock:
                place = self._call.place(block.clip, block.block)
                if place is None:
                    return None
                frame_bytes = self._call.request.width * self._call.request.height * 3
                return {
                    "type": "frames",
                    "leaseId": place.lease_id,
                    "produced": place.produced,
                    "count": place.count,
                    "skipBytes": place.drop * frame_bytes,
                }

        self._session._outbox.put_late(message, block.rgb)
        if block.block == BLOCKS - 1:
            self._session._outbox.put_late(lambda: self._clip_message(block.clip))

    def _clip_message(self, clip: int) -> dict[str, Any] | None:
        """In the outbox' thread, when the last frame of a clip was sent."""
        now = time.monotonic()
        seconds, self._last_clip = now - max(self._last_clip, self._resumed), now
        usage = self._session._engine.usage()
        session, call = self._session, self._call
        with session._lock:
            if call.span is None or call.cancelled:
                return None
            call.clip_done(clip)
            message = {
                "type": "clip",
                "leaseId": call.span.lease_id,
                "clip": clip,
                "renderSeconds": seconds,
                "peakMemoryBytes": usage.peak_memory_bytes,
                "reservedMemoryBytes": usage.reserved_memory_bytes,
                "hostBytes": usage.host_bytes,
            }
            # Queued behind this message, which is sent when this function returns.
            session._end_if_over(call)
            session._lock.notify_all()
        return message


def _model_call(request: SpanRequest) -> ModelCall:
    return ModelCall(
        first=request.first,
        clips=request.clips,
        width=request.width,
        height=request.height,
        sample_steps=request.sample_steps,
        base_seed=request.base_seed,
        prompt=request.prompt,
        reference_path=request.reference_path,
        audio_path=request.audio_path,
    )
