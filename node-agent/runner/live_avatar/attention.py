"""
PyTorch's own attention in place of the package flash-attn.

Upstream's `flash_attention` asserts that the package is installed. It is also where `torch.compile` breaks on Python
3.12 and later: a list comprehension reuses the name `v` of an argument, comprehensions are inlined there, and the
code that the compiler makes for the rest of the function has lost the argument.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any


def needs_replacement(compiled: bool) -> bool:
    """True when upstream's `flash_attention` can't run here."""
    packages = ("flash_attn", "flash_attn_interface")
    absent = all(importlib.util.find_spec(name) is None for name in packages)
    return absent or (compiled and sys.version_info >= (3, 12))


def flash_attention(torch: Any) -> Callable[..., Any]:
    """
    A function with the arguments of upstream's `flash_attention`, [batch, length, heads, channels] in and out.

    Lengths of single samples are not looked at: upstream only ever passes the full length (the text is padded to 512
    and attended to whole, and the audio tokens of a frame are all there).
    """
    half = (torch.float16, torch.bfloat16)
    attend = torch.nn.functional.scaled_dot_product_attention

    def replacement(
        q: Any,
        k: Any,
        v: Any,
        q_lens: Any = None,
        k_lens: Any = None,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        q_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        deterministic: bool = False,
        dtype: Any = torch.bfloat16,
        version: int | None = None,
    ) -> Any:
        if tuple(window_size) != (-1, -1):
            raise NotImplementedError("attention in a window")
        out_dtype = q.dtype
        values = v if v.dtype in half else v.to(dtype)
        queries = q.to(values.dtype) if q_scale is None else q.to(values.dtype) * q_scale
        out = attend(
            queries.transpose(1, 2),
            k.to(values.dtype).transpose(1, 2),
            values.transpose(1, 2),
            dropout_p=dropout_p,
            is_causal=causal,
            scale=softmax_scale,
        )
        return out.transpose(1, 2).contiguous().type(out_dtype)

    return replacement


def replace_everywhere(original: Any, replacement: Any, package: str) -> int:
    """Puts `replacement` wherever a module of `package` refers to `original` by that name; returns how often."""
    count = 0
    for name, module in list(sys.modules.items()):
        if name.split(".", 1)[0] != package or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, replacement)
                count += 1
    return count
