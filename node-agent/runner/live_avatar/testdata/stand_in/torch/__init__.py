"""
As much of PyTorch as the runner and the stand-in for the model use, in the standard library alone. A tensor has a shape
and a content: bytes where they matter (audio features), otherwise a number from which bytes are made. What is computed
from tensors has a content that depends on theirs, so that equal frames mean equal inputs.
"""

from __future__ import annotations

import contextlib
import math
import sys
import types
import zlib
from typing import Any


class DType:
    """A type of elements."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.itemsize = size


float32, float64, float16, bfloat16 = (
    DType("float32", 4),
    DType("float64", 8),
    DType("float16", 2),
    DType("bfloat16", 2),
)
long, uint8 = DType("int64", 8), DType("uint8", 1)


class OutOfMemoryError(RuntimeError):
    """As PyTorch's."""


class _Gpu:
    """What tensors occupy. Every tensor counts, wherever it claims to be."""

    used = 0
    peak = 0


class Tensor:
    """A shape, a type and a content."""

    is_cuda = False

    def __init__(self, shape: tuple[int, ...], dtype: DType = float32, tag: int = 0, data: bytearray | None = None):
        self.shape = tuple(shape)
        self.dtype = dtype
        self._tag = tag
        self._data = data
        self._bytes = math.prod(self.shape) * dtype.itemsize
        _Gpu.used += self._bytes
        _Gpu.peak = max(_Gpu.peak, _Gpu.used)

    def __del__(self) -> None:
        _Gpu.used -= self._bytes

    @property
    def tag(self) -> int:
        """What the content is known by."""
        return self._tag if self._data is None else zlib.crc32(self._data)

    def _as(self, shape: tuple[int, ...] | None = None, dtype: DType | None = None) -> Tensor:
        return Tensor(self.shape if shape is None else shape, dtype or self.dtype, self._tag, self._data)

    def to(self, *arguments: Any, **named: Any) -> Tensor:
        kinds = [each for each in (*arguments, *named.values()) if isinstance(each, DType)]
        return self._as(dtype=kinds[0] if kinds else None)

    def clamp(self, *_: Any, **__: Any) -> Tensor:
        return self._as()

    add = mul = cpu = contiguous = detach = clone = clamp

    def permute(self, *order: int) -> Tensor:
        return self._as(tuple(self.shape[place] for place in order))

    def unsqueeze(self, place: int) -> Tensor:
        return self._as((*self.shape[:place], 1, *self.shape[place:]))

    def squeeze(self, place: int) -> Tensor:
        return self._as((*self.shape[:place], *self.shape[place + 1 :]))

    def view(self, *shape: Any) -> Tensor:
        if isinstance(shape[0], DType):
            return self._as(dtype=shape[0])
        return self._as(shape)

    def __getitem__(self, index: Any) -> Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        if isinstance(parts[0], int):
            return Tensor(self.shape[1:], self.dtype, self.tag, self._data)
        shape = []
        wanted = [slice(None)] * (len(self.shape) - len(parts) + 1) + list(parts[1:]) if parts[0] is ... else parts
        for length, part in zip(self.shape, [*wanted, *[slice(None)] * len(self.shape)], strict=False):
            shape.append(len(range(*part.indices(length))))
        return Tensor(tuple(shape), self.dtype, self.tag)

    def __setitem__(self, index: slice, value: Tensor) -> None:
        assert self._data is not None and value._data is not None
        self._data[: len(value._data)] = value._data

    def numpy(self) -> bytes:
        if self._data is not None:
            return bytes(self._data)
        size = math.prod(self.shape) * self.dtype.itemsize
        frame = max(1, size // self.shape[0])
        return b"".join(bytes([(self.tag + number) % 251]) * frame for number in range(self.shape[0]))


class Generator:
    """A seed."""

    def __init__(self, device: Any = None) -> None:
        self._seed = 0

    def manual_seed(self, seed: int) -> Generator:
        self._seed = seed
        return self

    def initial_seed(self) -> int:
        return self._seed


class _Device:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


device = _Device


def mix(*tags: Any) -> int:
    """A content made of others."""
    return zlib.crc32(repr(tags).encode())


def randn(*shape: int, dtype: DType = float32, device: Any = None, generator: Generator | None = None) -> Tensor:
    where = "host" if device == "cpu" else "device"
    return Tensor(shape, dtype, mix(where, None if generator is None else generator.initial_seed()))


def zeros(shape: tuple[int, ...], dtype: DType = float32, device: Any = None) -> Tensor:
    return Tensor(shape, dtype, data=bytearray(math.prod(shape) * dtype.itemsize))


def zeros_like(like: Tensor) -> Tensor:
    return Tensor(like.shape, like.dtype)


def tensor(data: Any, dtype: DType = float32, device: Any = None) -> Tensor:
    made = Tensor((len(data),), dtype, mix(data))
    made.device = device  # type: ignore[attr-defined]
    return made


def frombuffer(data: bytearray, dtype: DType) -> Tensor:
    return Tensor((len(data) // dtype.itemsize,), dtype, data=data)


def stack(tensors: Any) -> Tensor:
    first = tensors[0]
    tag = first.tag if len(tensors) == 1 else mix(*(each.tag for each in tensors))
    return Tensor((len(tensors), *first.shape), first.dtype, tag)


def get_default_dtype() -> DType:
    return float32


def set_default_dtype(_dtype: DType) -> None:
    pass


no_grad = contextlib.nullcontext
version = types.SimpleNamespace(cuda=None)


# What CUDA takes beside the allocator, and what the allocator holds in reserve at most.
_CONTEXT_BYTES = 1 << 30
_RESERVE_BYTES = 8 << 30


def _reset_peak() -> None:
    _Gpu.peak = _Gpu.used


cuda = types.SimpleNamespace(
    is_available=lambda: True,
    get_device_name=lambda: "stand-in",
    synchronize=lambda: None,
    empty_cache=lambda: None,
    memory_allocated=lambda: _Gpu.used,
    memory_reserved=lambda: _Gpu.used,
    max_memory_allocated=lambda: _Gpu.peak,
    max_memory_reserved=lambda: _Gpu.peak + _RESERVE_BYTES,
    reset_peak_memory_stats=_reset_peak,
    mem_get_info=lambda: ((80 << 30) - _Gpu.used - _CONTEXT_BYTES, 80 << 30),
)
compiler = types.SimpleNamespace(reset=lambda: None)


class _Group:
    """`torch.distributed` of one process."""

    joined = False

    @staticmethod
    def HashStore() -> None:
        return None

    @classmethod
    def is_initialized(cls) -> bool:
        return cls.joined

    @classmethod
    def init_process_group(cls, _backend: str, **_named: Any) -> None:
        cls.joined = True


distributed = _Group
_INITIALISERS = ("uniform_", "normal_", "kaiming_uniform_", "xavier_uniform_", "ones_", "zeros_", "constant_")
nn = types.SimpleNamespace(
    init=types.SimpleNamespace(**dict.fromkeys(_INITIALISERS)),
    functional=types.SimpleNamespace(scaled_dot_product_attention=None),
)
sys.modules["torch.distributed"] = distributed  # type: ignore[assignment]
