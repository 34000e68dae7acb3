"""Failures by class, with the numbers that prove them. The classes are those of the runner protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

FailureClass = Literal["out_of_memory", "device", "bad_input", "environment", "crash", "hang"]

#: After these the process is of no more use: a CUDA context never recovers from a device-side assert, and after an
#: unknown exception nobody knows what the model's state is.
FATAL: frozenset[str] = frozenset({"device", "crash"})

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TRIED = re.compile(r"[Tt]ried to allocate ([0-9.]+) (bytes|KiB|MiB|GiB|TiB)")

#: What the messages of a broken device say. PyTorch has no class of its own for these before version 2.9.
_DEVICE_SIGNS = (
    "CUDA error",
    "cuDNN error",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "device-side assert",
    "NCCL error",
    "Triton Error [CUDA]",
    "CUDA driver error",
)


class Failure(Exception):
    """A failure of a known class. `numbers` is the evidence: bytes, pixels, clips, by name."""

    def __init__(self, error_class: FailureClass, message: str, numbers: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.numbers = dict(numbers or {})

    def message_fields(self, lease_id: str | None) -> dict[str, object]:
        """The fields of the protocol's `error` message."""
        fields: dict[str, object] = {"class": self.error_class, "message": self.message}
        if lease_id is not None:
            fields["leaseId"] = lease_id
        if self.numbers:
            fields["numbers"] = self.numbers
        return fields


def classify(error: BaseException, numbers: Mapping[str, float] | None = None) -> Failure:
    """
    The failure that an exception is. `numbers` is what is known about the device and the work at that moment.

    Out of memory is told apart from a broken device, because the first leaves the process usable.
    """
    if isinstance(error, Failure):
        merged = {**(numbers or {}), **error.numbers} if error.error_class == "out_of_memory" else error.numbers
        return Failure(error.error_class, error.message, merged)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return Failure("out_of_memory", f"host memory is exhausted ({text})", numbers)
    if _is_gpu_memory(error):
        return Failure("out_of_memory", _first_line(text), {**(numbers or {}), **_tried(text)})
    if type(error).__name__ == "AcceleratorError" or any(sign in text for sign in _DEVICE_SIGNS):
        return Failure("device", _first_line(text), numbers)
    if isinstance(error, ImportError):
        return Failure("environment", f"a Python package is missing or broken: {_first_line(text)}")
    if isinstance(error, FileNotFoundError):
        return Failure("environment", f"a file is missing: {error.filename or error}")
    if isinstance(error, OSError):
        return Failure("environment", _first_line(text))
    return Failure("crash", _first_line(text), numbers)


def _is_gpu_memory(error: BaseException) -> bool:
    # By name, so that this module needs no torch: OutOfMemoryError is torch.cuda's before 2.5 and torch's after.
    names = {base.__name__ for base in type(error).__mro__}
    return (
        "OutOfMemoryError" in names or "CUDA out of memory" in str(error) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
    )


def _tried(text: str) -> dict[str, float]:
    match = _TRIED.search(text)
    return {} if match is None else {"neededBytes": float(match[1]) * _UNITS[match[2]]}


def _first_line(text: str) -> str:
    """The first line, which is what PyTorch's messages say before their advice, at most 1000 characters."""
    return text.strip().split("\n", 1)[0][:1000]
