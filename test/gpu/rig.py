"""A runner in this process, spoken to through a real socket as its agent would."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import upstream  # noqa: F401, first: it makes the runner importable
from live_avatar.model import LiveAvatar
from live_avatar.options import Options
from live_avatar.outbox import Outbox
from live_avatar.protocol import encode, receive
from live_avatar.session import Session

_PREFIX = struct.Struct(">II")


def options(checkout: Path, checkpoint: Path, fp8: bool = False, compiled: bool = False) -> Options:
    """Options of a runner on one GPU."""
    lora = checkpoint / "lora" / "liveavatar.safetensors"
    return Options(checkout, checkpoint, lora, fp8, compiled, tpp=False, socket="")


@dataclass
class Arrived:
    """A message with the time of its arrival and, for frames, their hash, and their bytes where they are kept."""

    at: float
    message: dict[str, Any]
    sha256: str = ""
    payload: bytes = b""


@dataclass
class Rig:
    """The agent's side. `keep` is what to do with frames: count them, hash them, or keep their bytes."""

    engine: LiveAvatar
    keep: str = "count"
    arrived: list[Arrived] = field(default_factory=list)

    def __post_init__(self) -> None:
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._socket = ours
        self._news = threading.Condition()
        session = Session(self.engine, Outbox(theirs))
        threading.Thread(target=session.serve, args=(receive(theirs),), daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message to the runner."""
        self._socket.sendall(encode(message))

    def wait(self, kind: str, lease: str | None = None, seconds: float = 580) -> dict[str, Any]:
        """The first message of a type (and of a lease). Throws for an `error` of the runner."""
        deadline = time.monotonic() + seconds

        def found() -> Arrived | None:
            for each in self.arrived:
                if each.message["type"] in (kind, "error") and lease in (None, each.message.get("leaseId")):
                    return each
            return None

        with self._news:
            while (each := found()) is None:
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no {kind} of {lease} within {seconds} s")
        if each.message["type"] != kind:
            raise RuntimeError(str(each.message))
        return each.message

    def __enter__(self) -> Rig:
        self.send({"type": "load"})
        self.wait("loaded")
        return self

    def __exit__(self, *_: Any) -> None:
        """Ends the call that is held open, and with it what listens to upstream's pipeline."""
        already = self._count("loaded")
        self.send({"type": "load"})
        deadline = time.monotonic() + 60
        while self._count("loaded") == already and time.monotonic() < deadline:
            time.sleep(0.01)
        self._socket.close()

    def _count(self, kind: str) -> int:
        return sum(each.message["type"] == kind for each in self.arrived)

    def render(self, request: dict[str, Any]) -> list[Arrived]:
        """Renders a span; returns what came of it."""
        self.send({"type": "render", "request": request})
        self.wait("spanEnded", request["leaseId"])
        return [each for each in self.arrived if each.message.get("leaseId") == request["leaseId"]]

    def _read(self) -> None:
        buffer = bytearray(64 << 20)
        view = memoryview(buffer)
        import json

        while True:
            self._fill(view[:8])
            header, payload = _PREFIX.unpack(view[:8])
            self._fill(view[:header])
            message = json.loads(bytes(view[:header]))
            self._fill(view[:payload])
            arrived = Arrived(time.monotonic(), message)
            if payload and self.keep == "hash":
                arrived.sha256 = hashlib.sha256(view[:payload]).hexdigest()
            if payload and self.keep == "bytes":
                arrived.payload = bytes(view[:payload])
            with self._news:
                self.arrived.append(arrived)
                self._news.notify_all()

    def _fill(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            try:
                got = self._socket.recv_into(view[filled:])
            except OSError:
                got = 0
            if got == 0:
                raise SystemExit
            filled += got


def request(inputs: Inputs, lease: str, start: int, end: int, **changes: Any) -> dict[str, Any]:
    """A render request for clips [start, end)."""
    return {
        "leaseId": lease,
        "jobId": "job",
        "span": 0,
        "start": start,
        "end": end,
        "preRoll": min(start, 1),
        "clips": inputs.clips,
        "width": inputs.width,
        "height": inputs.height,
        "sampleSteps": 4,
        "baseSeed": 420,
        "prompt": "A person talks to the camera, 自然な光",
        "referencePath": str(inputs.picture),
        "anchored": False,
        "audioPath": str(inputs.audio),
        "continues": None,
        **changes,
    }


@dataclass(frozen=True)
class Inputs:
    """A picture of noise and a talk of noise, of a size and of so many clips."""

    width: int
    height: int
    clips: int
    picture: Path
    audio: Path


def make_inputs(directory: Path, width: int, height: int, clips: int) -> Inputs:
    """Writes them."""
    import numpy
    from PIL import Image

    directory.mkdir(parents=True, exist_ok=True)
    generator = numpy.random.default_rng(5)
    picture = directory / f"reference-{width}x{height}.png"
    coarse = generator.integers(0, 256, (height // 32, width // 32, 3), dtype=numpy.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(picture)
    audio = directory / f"talk-{clips}.wav"
    samples = 30720 * clips
    envelope = numpy.repeat(generator.random(samples // 1600 + 1), 1600)[:samples]
    talk = (generator.normal(0, 6000, samples) * envelope).clip(-32767, 32767).astype("<i2")
    with wave.open(str(audio), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(talk.tobytes())
    return Inputs(width, height, clips, picture, audio)
