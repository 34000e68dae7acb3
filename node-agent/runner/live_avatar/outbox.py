"""Sends messages to the agent, in order, from a thread of its own: the model never waits for the socket."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from .protocol import encode

#: Blocks of frames that may wait for the agent: one being sent, one ready, one in the making. When the agent falls
#: behind, the model waits here instead of filling memory.
_WAITING_BLOCKS = 2

#: A message and its payload, made when its turn comes: by then the GPU may have finished it.
Payload = Callable[[], memoryview | bytes]


class Gone(Exception):
    """The agent is gone."""


class Outbox:
    """A queue and its thread. `put` throws Gone once the connection is lost."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[Callable[[], dict[str, Any] | None], Payload | None] | None] = (
            queue.SimpleQueue()
        )
        self._room = threading.Semaphore(_WAITING_BLOCKS)
        self._gone = threading.Event()
        self._on_error: Callable[[BaseException], None] = lambda _error: None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def on_error(self, handler: Callable[[BaseException], None]) -> None:
        """Takes what a payload throws, which is a failure of the model, not of the connection."""
        self._on_error = handler

    def put(self, message: dict[str, Any]) -> None:
        """Sends a message after everything put before."""
        self.put_late(lambda: message)

    def put_late(self, message: Callable[[], dict[str, Any] | None], payload: Payload | None = None) -> None:
        """
        Sends a message that is decided on when its turn comes, in the outbox's thread; None is not sent. With a
        payload it waits while too many blocks are on their way.
        """
        if payload is not None:
            while not self._room.acquire(timeout=1):
                if self._gone.is_set():
                    raise Gone
        if self._gone.is_set():
            raise Gone
        self._queue.put((message, payload))

    def close(self) -> None:
        """Sends what was put, then ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            message, payload = item
            try:
                self._send(message, payload)
            except Gone:
                self._gone.set()
                return
            except BaseException as error:  # The model's failure: the session reports it.
                self._on_error(error)
            finally:
                if payload is not None:
                    self._room.release()

    def _send(self, message: Callable[[], dict[str, Any] | None], payload: Payload | None) -> None:
        # The payload first: waiting for the GPU shows its errors, and lets a cancel come in time.
        body = None if payload is None else memoryview(payload()).cast("B")
        header = message()
        if header is None:
            return
        try:
            if body is not None:
                # The message says how much of the payload counts: frames that the model drops are in front.
                body = body[int(header.pop("skipBytes", 0)) :]
            self._connection.sendall(encode(header, 0 if body is None else len(body)))
            if body is not None:
                self._connection.sendall(body)
        except OSError as error:
            raise Gone from error
