"""Imports an unmodified checkout of Live Avatar."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import attention
from .failures import Failure

PACKAGE = "liveavatar"
#: Packages whose `__init__` imports training code and the other tasks of the family, with everything those need. Their
#: modules are imported all the same, one by one.
_BARE = (
    PACKAGE,
    f"{PACKAGE}.models",
    f"{PACKAGE}.models.wan",
    f"{PACKAGE}.models.wan.wan_2_2",
)


@dataclass(frozen=True)
class Checkout:
    """The modules that matter. `pipeline` holds `WanS2V`; the others are reached through it or beside it."""

    path: Path
    pipeline: Any
    config: Any
    streaming_vae: Any
    fp8: Any
    training_settings: dict[str, Any]


def open_checkout(path: Path, compiled: bool, tpp: bool) -> Checkout:
    """
    Imports a checkout, once in a process. Throws Failure `environment` when it is none, or lacks what is needed.

    @param compiled upstream reads this from the environment while it is imported, so it can't be changed later
    """
    pipeline_name = "causal_s2v_pipeline_tpp" if tpp else "causal_s2v_pipeline"
    if not (path / PACKAGE / "models" / "wan" / f"{pipeline_name}.py").is_file():
        raise Failure("environment", f"{path} is no checkout of Live Avatar: {pipeline_name}.py is missing")
    os.environ["ENABLE_COMPILE"] = "true" if compiled else "false"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Nothing is ever fetched: weights are given as paths.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(path))
    for name in _BARE:
        package = types.ModuleType(name)
        package.__path__ = [str(path.joinpath(*name.split(".")))]  # type: ignore[attr-defined]
        sys.modules[name] = package
    try:
        pipeline = importlib.import_module(f"{PACKAGE}.models.wan.{pipeline_name}")
        modules = f"{PACKAGE}.models.wan.wan_2_2.modules"
        attention_module = importlib.import_module(f"{modules}.attention")
        streaming_vae = importlib.import_module(f"{modules}.vae_streaming")
        configs = importlib.import_module(f"{PACKAGE}.models.wan.wan_2_2.configs")
        settings = importlib.import_module(f"{PACKAGE}.utils.args_config")
        # Imported here, not where it is used: it decorates a function with torch.compile.
        fp8 = importlib.import_module(f"{PACKAGE}.utils.fp8_linear")
    except ImportError as error:
        hint = f"the checkout {path} can't be imported: {error}; install its requirements.txt"
        raise Failure("environment", hint) from error
    if attention.needs_replacement(compiled):
        _replace_attention(attention_module)
    return Checkout(
        path=path,
        pipeline=pipeline,
        config=configs.WAN_CONFIGS["s2v-14B"],
        streaming_vae=streaming_vae,
        fp8=fp8,
        training_settings=settings.parse_args_for_training_config(
            str(path / PACKAGE / "configs" / "s2v_causal_sft.yaml")
        ),
    )


def _replace_attention(module: Any) -> None:
    original: Callable[..., Any] = module.flash_attention
    torch = importlib.import_module("torch")
    attention.replace_everywhere(original, attention.flash_attention(torch), PACKAGE)


def commit_of(path: Path) -> str:
    """The checkout's commit, read without running git; `unknown` where it can't be."""
    git = path / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:40]
        reference = head.removeprefix("ref: ")
        if (git / reference).is_file():
            return (git / reference).read_text().strip()[:40]
        for line in (git / "packed-refs").read_text().splitlines():
            if line.endswith(f" {reference}"):
                return line.split(" ", 1)[0]
    except OSError:
        pass
    return "unknown"
