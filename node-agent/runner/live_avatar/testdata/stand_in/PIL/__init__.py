"""As much of Pillow as the runner uses: the size of a PNG, and whether it is one."""

from __future__ import annotations

import struct
from typing import Any


class UnidentifiedImageError(OSError):
    """As Pillow's."""


class _Picture:
    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            head = file.read(24)
        if head[:8] != b"\x89PNG\r\n\x1a\n":
            raise UnidentifiedImageError(f"cannot identify image file {path!r}")
        self.size = struct.unpack(">II", head[16:24])

    def load(self) -> None:
        pass

    def __enter__(self) -> _Picture:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


class Image:
    """As the module."""

    open = _Picture
