"""The runner's arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """See `parse`."""

    checkout: Path
    ckpt_dir: Path
    lora: Path | None
    fp8: bool
    compile: bool
    tpp: bool
    socket: str


def parse(arguments: Sequence[str]) -> Options:
    """Reads the arguments; what is wrong with them is printed, and ends the process with status 2."""
    parser = argparse.ArgumentParser(prog="live_avatar", description="Renders with Live Avatar for a Clipfarm agent.")
    parser.add_argument("--checkout", type=Path, required=True, help="unmodified checkout of Live Avatar")
    parser.add_argument("--ckpt-dir", type=Path, required=True, help="directory of Wan2.2-S2V-14B")
    parser.add_argument("--lora", type=Path, help="liveavatar.safetensors, which makes the model a 4-step one")
    parser.add_argument("--dtype", choices=("bf16", "fp8"), default="bf16", help="of the transformer's linear layers")
    parser.add_argument("--compile", action="store_true", help="compile the transformer; slow at first, fast later")
    parser.add_argument("--tpp", action="store_true", help="one model over five GPUs, upstream's pipeline of steps")
    parser.add_argument("--socket", required=True, help="the agent's Unix socket")
    read = parser.parse_args(arguments)
    return Options(
        # Absolute, because upstream takes a relative path of weights for the name of a download.
        checkout=read.checkout.resolve(),
        ckpt_dir=read.ckpt_dir.resolve(),
        lora=None if read.lora is None else read.lora.resolve(),
        fp8=read.dtype == "fp8",
        compile=read.compile,
        tpp=read.tpp,
        socket=read.socket,
    )
