"""
Upstream's pipeline of five GPUs (TPP) as one runner: four ranks denoise, one step each, the fifth decodes.

Rank 0 speaks with the agent and starts the other four. They follow its commands over a group of their own that uses
the host's network stack (gloo) and waits for days: an NCCL operation that waits for ten minutes is taken for a hang.
All ranks must do the same in the same order, so whether a clip begins is decided by rank 0 alone and told to all.
Frames come from rank 4, over a socket pair. No rank outlives rank 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from .engine import Block, CallClosed, Stage
from .span import BLOCKS

RANKS = 5
DECODER = RANKS - 1
#: How long a rank waits for a command. A runner may be idle for days.
_PATIENCE = datetime.timedelta(days=365)
_BLOCK = struct.Struct(">III")
#: Bytes needed, and bytes with what the allocator holds in reserve.
_PEAKS = struct.Struct(">QQ")


class Group:
    """The ranks' common group: commands from rank 0 to all."""

    def __init__(self, rank: int, store: Any) -> None:
        distributed = importlib.import_module("torch.distributed")
        torch = importlib.import_module("torch")
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=RANKS, timeout=_PATIENCE)
        self.rank = rank
        self._distributed = distributed
        self._commands = distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def tell(self, value: Any = None) -> Any:
        """Rank 0 gives a value; every rank gets it."""
        box = [value]
        self._distributed.broadcast_object_list(box, src=0, group=self._commands)
        return box[0]

    def meet(self) -> None:
        """Returns when every rank is here."""
        self._distributed.barrier(group=self._commands)


class SharedStage:
    """A stage that all ranks agree with: rank 0 asks the session, and tells the others."""

    def __init__(self, group: Group, stage: Stage | None) -> None:
        self._group = group
        self._stage = stage

    def begin_clip(self, clip: int) -> None:
        go = True
        if self._stage is not None:
            try:
                self._stage.begin_clip(clip)
            except CallClosed:
                go = False
        if not self._group.tell(go):
            raise CallClosed

    def check(self) -> None:
        """A clip that all ranks are in is finished by all of them."""

    def step(self, clip: int, fraction: float) -> None:
        """Progress is what has been decoded."""

    def block(self, block: Block) -> None:
        raise AssertionError("blocks come from the decoding rank")


class Followers:
    """Ranks 1 to 4, as rank 0 sees them."""

    def __init__(self, command: list[str]) -> None:
        distributed = importlib.import_module("torch.distributed")
        self.store = distributed.TCPStore("127.0.0.1", 0, RANKS, is_master=True, wait_for_workers=False)
        ours, theirs = socket.socketpair()
        self._frames = ours
        self._peaks = os.memfd_create("clipfarm-peaks")
        os.truncate(self._peaks, RANKS * _PEAKS.size)
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, RANKS):
            descriptors = [theirs.fileno() if rank == DECODER else -1, self._peaks]
            environment = {
                **os.environ,
                "CLIPFARM_RANK": str(rank),
                "CLIPFARM_STORE_PORT": str(self.store.port),
                "CLIPFARM_PARENT": str(os.getpid()),
                "CLIPFARM_DESCRIPTORS": ",".join(map(str, descriptors)),
            }
            passed = [each for each in descriptors if each >= 0]
            self._processes.append(
                subprocess.Popen(command, env=environment, pass_fds=passed, stdin=subprocess.DEVNULL)
            )
        theirs.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the other ranks."""
        return tuple(process.pid for process in self._processes)

    def peaks(self, needed: int, reserved: int) -> tuple[int, int]:
        """Highest of the ranks' peaks, those of rank 0 given: bytes needed, and with what allocators hold in reserve."""
        found = list(_PEAKS.iter_unpack(os.pread(self._peaks, RANKS * _PEAKS.size, 0)))
        return max(needed, *(each[0] for each in found)), max(reserved, *(each[1] for each in found))

    def watch(self, on_end: Callable[[int, int], None]) -> None:
        """Calls `on_end` with rank and status when one of them ends."""

        def wait(rank: int, process: subprocess.Popen[bytes]) -> None:
            on_end(rank, process.wait())

        for rank, process in enumerate(self._processes, 1):
            threading.Thread(target=wait, args=(rank, process), name=f"rank-{rank}", daemon=True).start()

    def relay(self, stage: Stage) -> None:
        """Hands blocks to `stage` until rank 4 has left the call."""
        while True:
            clip, block, size = _BLOCK.unpack(_receive(self._frames, _BLOCK.size))
            if size == 0:
                return
            stage.block(Block(clip, block, _given(_receive(self._frames, size))))
            stage.step(clip, (block + 1) / BLOCKS)


class Frames:
    """Rank 4's end of the frames."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def send(self, clip: int, block: int, rgb: memoryview) -> None:
        """Sends a block; waits while rank 0 is behind."""
        data = rgb.cast("B")
        self._socket.sendall(_BLOCK.pack(clip, block, len(data)))
        self._socket.sendall(data)

    def end(self) -> None:
        """Every block of the call was sent."""
        self._socket.sendall(_BLOCK.pack(0, 0, 0))


class Follower:
    """What a rank other than 0 knows of its place, out of its environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.rank = int(environment["CLIPFARM_RANK"])
        self._port = int(environment["CLIPFARM_STORE_PORT"])
        self._parent = int(environment["CLIPFARM_PARENT"])
        frames, self._peaks = (int(each) for each in environment["CLIPFARM_DESCRIPTORS"].split(","))
        self.frames = Frames(frames) if frames >= 0 else None

    @staticmethod
    def of(environment: dict[str, str]) -> Follower | None:
        """None in rank 0."""
        return Follower(environment) if "CLIPFARM_RANK" in environment else None

    def die_with_parent(self) -> None:
        """Whatever ends rank 0, the kernel ends this process too."""
        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != self._parent:
            os._exit(1)

    def join(self) -> Group:
        """Joins the group of rank 0."""
        distributed = importlib.import_module("torch.distributed")
        store = distributed.TCPStore("127.0.0.1", self._port, RANKS, is_master=False)
        return Group(self.rank, store)

    def tell_peaks(self, needed: int, reserved: int) -> None:
        """Lets rank 0 know of this rank's memory; see `Followers.peaks`."""
        os.pwrite(self._peaks, _PEAKS.pack(needed, reserved), self.rank * _PEAKS.size)


def _given(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _receive(connection: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    view, filled = memoryview(buffer), 0
    while filled < count:
        got = connection.recv_into(view[filled:])
        if got == 0:
            raise ConnectionError("the decoding rank is gone")
        filled += got
    return bytes(buffer)
