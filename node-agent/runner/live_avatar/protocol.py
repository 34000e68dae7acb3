"""
The runner's side of the protocol between agent and runner; its specification is `node-agent/src/runner/protocol.ts`.

Framing: `u32be headerBytes | u32be payloadBytes | header (UTF-8 JSON) | payload`. Only `frames` has a payload.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PROTOCOL = 2
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
_PREFIX = struct.Struct(">II")


class ProtocolError(Exception):
    """The agent sent something that is not the protocol. The connection is of no more use."""


@dataclass(frozen=True)
class SpanRequest:
    """A span that the agent wants; see `spanRequest` of the specification."""

    lease_id: str
    job_id: str
    start: int
    end: int
    pre_roll: int
    clips: int
    width: int
    height: int
    sample_steps: int
    base_seed: int
    prompt: str
    reference_path: str
    anchored: bool
    audio_path: str
    continues: str | None

    @property
    def first(self) -> int:
        """First clip that is rendered when the span is not continued: `start` less the pre-roll."""
        return self.start - self.pre_roll

    def same_work(self, other: SpanRequest) -> bool:
        """
        True when a model call opened for `other` renders this span as a call of its own would, save its beginning. The
        reference may differ: a call keeps the one it began with, of which a job's anchor is the first frame.
        """
        return all(getattr(self, name) == getattr(other, name) for name in _WORK)


_WORK = ("job_id", "clips", "width", "height", "sample_steps", "base_seed", "prompt", "audio_path")


def span_request(raw: Any) -> SpanRequest:
    """Reads the `request` of a `render` message. Throws ProtocolError."""
    return SpanRequest(
        lease_id=_field(raw, "leaseId", str),
        job_id=_field(raw, "jobId", str),
        start=_natural(raw, "start"),
        end=_natural(raw, "end"),
        pre_roll=_natural(raw, "preRoll"),
        clips=_natural(raw, "clips"),
        width=_natural(raw, "width"),
        height=_natural(raw, "height"),
        sample_steps=_natural(raw, "sampleSteps"),
        base_seed=_natural(raw, "baseSeed"),
        prompt=_field(raw, "prompt", str),
        reference_path=_field(raw, "referencePath", str),
        anchored=_field(raw, "anchored", bool),
        audio_path=_field(raw, "audioPath", str),
        continues=None if raw.get("continues") is None else _field(raw, "continues", str),
    )


def encode(message: dict[str, Any], payload_bytes: int = 0) -> bytes:
    """Prefix and header of a message whose payload, if any, is sent after them."""
    header = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(header)} bytes; at most {MAX_HEADER_BYTES} are accepted")
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload of {payload_bytes} bytes; at most {MAX_PAYLOAD_BYTES} are accepted")
    return _PREFIX.pack(len(header), payload_bytes) + header


def receive(connection: socket.socket) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Messages and their payloads until the connection ends, however it ends. Throws ProtocolError."""
    while True:
        prefix = _exactly(connection, _PREFIX.size)
        if prefix is None:
            return
        header_bytes, payload_bytes = _PREFIX.unpack(prefix)
        if not 2 <= header_bytes <= MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise ProtocolError(f"header of {header_bytes} and payload of {payload_bytes} bytes")
        header = _exactly(connection, header_bytes)
        payload = b"" if payload_bytes == 0 else _exactly(connection, payload_bytes)
        if header is None or payload is None:
            return
        try:
            message = json.loads(header)
        except ValueError as error:
            raise ProtocolError("header is not JSON in UTF-8") from error
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ProtocolError("header has no type")
        yield message, payload


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    """That many bytes, or None when the connection ended first."""
    buffer = bytearray(count)
    view = memoryview(buffer)
    filled = 0
    while filled < count:
        try:
            got = connection.recv_into(view[filled:])
        except OSError:
            return None
        if got == 0:
            return None
        filled += got
    return bytes(buffer)


def _field(raw: Any, name: str, kind: type) -> Any:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, kind):
        raise ProtocolError(f"{name} is {value!r}; {kind.__name__} is accepted")
    return value


def _natural(raw: Any, name: str) -> int:
    value = _field(raw, name, int)
    if isinstance(value, bool) or value < 0:
        raise ProtocolError(f"{name} is {value!r}; a whole number from 0 is accepted")
    return value
