"""Memory of this process and its GPU."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")

# The CUDA context took 1.2 GiB on an H200. What is far beyond that belongs to other programs on the GPU.
_MOST_BESIDE_ALLOCATOR = 2 << 30


def resident_bytes(pids: tuple[int, ...] = ()) -> int:
    """Resident set of this process and others, as Linux counts it; 0 where there is no /proc."""
    return _resident("self") + sum(_resident(pid) for pid in pids)


def _resident(pid: int | str) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def gpu_reserved(torch: Any) -> int:
    """Bytes that PyTorch's allocator holds on the current GPU; 0 without one."""
    return int(torch.cuda.memory_reserved()) if torch.cuda.is_available() else 0


def gpu_allocated(torch: Any) -> int:
    """Bytes that tensors occupy on the current GPU; 0 without one."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0


def gpu_peak(torch: Any) -> int:
    """
    Bytes that this process has needed on the current GPU since `reset_gpu_peak`: the most that tensors occupied, and what
    it takes beside the allocator. What the allocator holds in reserve is not counted: on a larger GPU it is more.
    """
    return int(torch.cuda.max_memory_allocated()) + _beside_allocator(torch) if torch.cuda.is_available() else 0


def gpu_reserved_peak(torch: Any) -> int:
    """
    Bytes that this process has taken of the current GPU since `reset_gpu_peak`, with what the allocator holds in reserve:
    what nvidia-smi shows for it.
    """
    return int(torch.cuda.max_memory_reserved()) + _beside_allocator(torch) if torch.cuda.is_available() else 0


def _beside_allocator(torch: Any) -> int:
    free, total = torch.cuda.mem_get_info()
    return min(max(total - free - gpu_reserved(torch), 0), _MOST_BESIDE_ALLOCATOR)


def reset_gpu_peak(torch: Any) -> None:
    """Begins a new measurement of `gpu_peak` and `gpu_reserved_peak`."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def give_back(torch: Any) -> None:
    """Collects what is unreachable and returns the allocator's free blocks to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        gc.collect()


def gpu_numbers(torch: Any) -> dict[str, float]:
    """Evidence about the GPU for a failure; empty without one, or when it does not answer any more."""
    if not torch.cuda.is_available():
        return {}
    try:
        free, total = torch.cuda.mem_get_info()
        return {
            "freeBytes": float(free),
            "totalBytes": float(total),
            "allocatedBytes": float(gpu_allocated(torch)),
            "reservedBytes": float(gpu_reserved(torch)),
        }
    except Exception:  # A broken context answers nothing; the failure itself is what matters.
        return {}
