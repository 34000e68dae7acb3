"""What is kept between spans, by content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """The values used last, by key."""

    def __init__(self, entries: int, forget: Callable[[Value], None] = lambda _value: None) -> None:
        self._entries = entries
        self._forget = forget
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is missing."""
        if key not in self._values:
            value = make()
            self._values[key] = value
            while len(self._values) > self._entries:
                self._forget(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        """Forgets everything."""
        while self._values:
            self._forget(self._values.popitem()[1])


def text_key(text: str) -> str:
    """Key of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_key(path: str) -> str:
    """Key of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: object) -> str:
    """`hashlib.file_digest` for Python 3.10."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):  # type: ignore[attr-defined]
        digest.update(chunk)
    return digest.hexdigest()
