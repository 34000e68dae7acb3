"""The checkout as the measurements use it, and what lets a tiny model of it run without a GPU."""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "node-agent" / "runner"))

_MODULES = "liveavatar.models.wan.wan_2_2.modules"


@dataclass(frozen=True)
class Modules:
    """What the measurements need of the checkout."""

    checkout: Any
    torch: Any
    pipeline: Any
    attention: Any
    t5: Any
    streaming_vae: Any


def import_checkout(path: Path, compiled: bool, tpp: bool = False) -> Modules:
    """Imports it with the runner's own code."""
    from live_avatar.checkout import open_checkout

    checkout = open_checkout(path, compiled, tpp)
    attention = importlib.import_module(f"{_MODULES}.attention")
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        attention.cudnn_attention_forward_with_lse = _host_attention
        checkout.pipeline.torch = _host_namespace(torch)
    return Modules(
        checkout=checkout,
        torch=torch,
        pipeline=checkout.pipeline,
        attention=attention,
        t5=importlib.import_module(f"{_MODULES}.t5"),
        streaming_vae=checkout.streaming_vae,
    )


def run_on_cpu() -> None:
    """
    Before the checkout is imported: lets code that names GPUs run on the CPU. Devices become the CPU, and a layer's
    input is brought to a common type with its weights, which autocast does on a GPU.
    """
    import torch
    import torch.nn.functional as functional

    if torch.cuda.is_available():
        return
    torch.cuda.current_device = lambda: 0
    torch.cuda.synchronize = lambda *_: None
    to = torch.Tensor.to

    def to_host(self: Any, *arguments: Any, **named: Any) -> Any:
        named = {key: _host(value) for key, value in named.items()}
        return to(self, *(_host(value) for value in arguments), **named)

    torch.Tensor.to = to_host
    for name in ("linear", "conv1d", "conv2d", "conv3d"):
        setattr(functional, name, _promoting(torch, getattr(functional, name)))
    warnings = importlib.import_module("warnings")
    warnings.filterwarnings("ignore")


#: Channels of the tiny model's VAE at its finest level; the real one has 96.
TINY_VAE = 8


def shrink(modules: Modules) -> None:
    """A text encoder of one layer, whose width is what the transformer expects, and a VAE of few channels."""
    for module in (modules.streaming_vae, importlib.import_module(f"{_MODULES}.vae2_1")):
        make = module._video_vae
        module._video_vae = lambda make=make, **named: make(**named, dim=TINY_VAE)
    original = modules.t5.umt5_xxl
    modules.t5.umt5_xxl = lambda **named: original(
        **{**named, "vocab_size": 256, "encoder_layers": 1, "dim_ffn": 64, "dim_attn": 64, "num_heads": 1}
    )


def _host(value: Any) -> Any:
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


def _promoting(torch: Any, function: Any) -> Any:
    def call(x: Any, weight: Any, bias: Any = None, *others: Any, **named: Any) -> Any:
        if x.dtype == weight.dtype:
            return function(x, weight, bias, *others, **named)
        wide = torch.promote_types(x.dtype, weight.dtype)
        narrow = None if bias is None else bias.to(wide)
        return function(x.to(wide), weight.to(wide), narrow, *others, **named)

    return call


def _host_attention(q: Any, k: Any, v: Any, is_causal: bool = False, **_named: Any) -> Any:
    import torch

    parts = (each.transpose(1, 2).to(v.dtype) for each in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=is_causal).transpose(1, 2).contiguous()


def _host_namespace(torch: Any) -> types.ModuleType:
    """`torch` as a pipeline sees it without a GPU."""
    namespace = types.ModuleType("torch")

    def on_host(name: str) -> Any:
        function = getattr(torch, name)
        return lambda *arguments, **named: function(*arguments, **{k: _host(v) for k, v in named.items()})

    for name in ("zeros", "ones", "tensor", "randn"):
        setattr(namespace, name, on_host(name))
    namespace.device = lambda name, *_: torch.device(_host(str(name)))  # type: ignore[attr-defined]
    namespace.Generator = lambda device=None: torch.Generator(device="cpu")  # type: ignore[attr-defined]
    namespace.__getattr__ = lambda name: getattr(torch, name)  # type: ignore[attr-defined]
    return namespace
