"""`python3 -m live_avatar`: one runner, for one agent."""

from __future__ import annotations

import os
import socket
import sys

from . import VERSION, options, protocol
from .model import LiveAvatar
from .outbox import Gone, Outbox
from .pipeline import PipelineLeader, follow
from .protocol import PROTOCOL, ProtocolError
from .ranks import Follower
from .session import Session


def main() -> int:
    """Serves the agent until it says goodbye or is gone. Returns the exit status."""
    chosen = options.parse(sys.argv[1:])
    follower = Follower.of(dict(os.environ)) if chosen.tpp else None
    if follower is not None:
        return follow(chosen, follower)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(chosen.socket)
    except OSError as error:
        print(f"live-avatar runner: cannot connect to the agent at {chosen.socket}: {error}", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "live_avatar", *sys.argv[1:]]
    engine = PipelineLeader(chosen, command) if chosen.tpp else LiveAvatar(chosen)
    outbox = Outbox(connection)
    session = Session(engine, outbox)
    try:
        outbox.put(hello(engine))
        session.serve(protocol.receive(connection))
    except Gone:
        pass
    except ProtocolError as error:
        print(f"live-avatar runner: the agent's message is malformed: {error}", file=sys.stderr)
        return 2
    return 0


def hello(engine: LiveAvatar) -> dict[str, object]:
    """The first message."""
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "runner": "live-avatar",
        "version": VERSION,
        "pid": os.getpid(),
        "capabilities": {"setEnd": True, "continues": True},
        "versions": engine.versions(),
    }


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a step may be running in the model's thread, and must not outlive the connection.
    os._exit(status)
