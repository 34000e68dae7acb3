"""Loads the weights as upstream's script does, and reports how far it is."""

from __future__ import annotations

import contextlib
import importlib
import json
import struct
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .checkout import Checkout
from .failures import Failure
from .options import Options

#: Layers that stay in bf16 with fp8, as in upstream's script.
NOT_FP8 = [
    "text_embedding",
    "time_embedding",
    "time_projection",
    "head.head",
    "casual_audio_encoder.encoder.final_linear",
]
_INDEX = "diffusion_pytorch_model.safetensors.index.json"

Report = Callable[[str, float], None]


def check_weights(options: Options) -> None:
    """Throws Failure `environment` with the missing or cut files, before minutes are spent on the others."""
    directory = options.ckpt_dir
    required = [
        "config.json",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "Wan2.1_VAE.pth",
        "google/umt5-xxl/tokenizer_config.json",
        "wav2vec2-large-xlsr-53-english/config.json",
        *_shards(directory),
    ]
    missing = [name for name in required if not (directory / name).is_file()]
    if options.lora is not None and not options.lora.is_file():
        missing.append(str(options.lora))
    if missing:
        message = f"weights are missing in {directory}: {', '.join(missing)}"
        raise Failure("environment", message, {"missing": len(missing)})
    shards = [directory / name for name in required if name.endswith(".safetensors")]
    for path in [*shards, *([] if options.lora is None else [options.lora])]:
        if path.suffix == ".safetensors":
            _check_safetensors(path)


def _shards(directory: Path) -> list[str]:
    """Files of the transformer, by its index; the single file where there is no index."""
    index = directory / _INDEX
    if not index.is_file():
        return ["diffusion_pytorch_model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise Failure("environment", f"{index} is no index of weights: {error}") from error


def _check_safetensors(path: Path) -> None:
    """A file must be as long as its header says: a download that broke off isn't."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length + 8 > size:
            raise Failure("environment", f"{path} is cut off or no safetensors file", {"bytes": size})
        try:
            header = json.loads(file.read(length))
            end = max(
                (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure("environment", f"{path} has a broken header: {error}") from error
    if size != 8 + length + end:
        numbers = {"bytes": size, "expectedBytes": 8 + length + end}
        raise Failure("environment", f"{path} has {size} bytes; its header promises {8 + length + end}", numbers)


def load_pipeline(checkout: Checkout, options: Options, report: Report, rank: int = 0) -> Any:
    """A ready `WanS2V`: transformer with LoRA merged, in bf16 or fp8, text encoder on the host, VAE on the GPU."""
    _join_process_group()
    torch = importlib.import_module("torch")
    with _phases(checkout.pipeline, torch, report, rank):
        wan = checkout.pipeline.WanS2V(
            config=checkout.config,
            checkpoint_dir=str(options.ckpt_dir),
            device_id=rank,
            rank=rank,
            # True means: move the VAE to the host in every clip, and leave it there.
            init_on_cpu=False,
            convert_model_dtype=True,
            single_gpu=not options.tpp,
        )
    if options.lora is not None:
        report("adapter", 0.75)
        settings = checkout.training_settings
        wan.noise_model = wan.add_lora_to_model(
            wan.noise_model,
            lora_rank=settings["lora_rank"],
            lora_alpha=settings["lora_alpha"],
            lora_target_modules=settings["lora_target_modules"],
            init_lora_weights=settings["init_lora_weights"],
            pretrained_lora_path=str(options.lora),
            load_lora_weight_only=False,
        )
    if options.fp8:
        report("fp8", 0.9)
        checkout.fp8.replace_linear_with_scaled_fp8(wan.noise_model, ignore_keys=NOT_FP8)
    return wan


def _join_process_group() -> None:
    """Upstream asks for its rank and for barriers even alone. A group of one needs no network and no port."""
    distributed = importlib.import_module("torch.distributed")
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)


@contextlib.contextmanager
def _phases(pipeline: Any, torch: Any, report: Report, rank: int) -> Iterator[None]:
    """Reports which of its parts the constructor of `WanS2V` is at."""
    names = ("T5EncoderModel", "Wan2_1_VAE", "CausalWanModel_S2V", "AudioEncoder")
    original = {name: getattr(pipeline, name) for name in names}

    def reporting(name: str, phase: str, fraction: float, uninitialised: bool = False) -> Callable[..., Any]:
        def make(*arguments: Any, **named: Any) -> Any:
            report(phase, fraction)
            with _without_initialisation(torch) if uninitialised else contextlib.nullcontext():
                return original[name](*arguments, **named)

        return make

    class Transformer:
        """In place of the class, of which only this is called."""

        @staticmethod
        def from_pretrained(*arguments: Any, **named: Any) -> Any:
            report("transformer", 0.3)
            return original["CausalWanModel_S2V"].from_pretrained(*arguments, **named)

    # One rank encodes prompts for all; on the host it takes 11 GB.
    absent = types.SimpleNamespace(model=None)
    text_encoder = reporting("T5EncoderModel", "text encoder", 0.05, uninitialised=True)
    pipeline.T5EncoderModel = text_encoder if rank == 0 else lambda **_named: absent
    pipeline.Wan2_1_VAE = reporting("Wan2_1_VAE", "video encoder", 0.28)
    pipeline.CausalWanModel_S2V = Transformer
    pipeline.AudioEncoder = reporting("AudioEncoder", "audio encoder", 0.7)
    try:
        yield
    finally:
        for name, value in original.items():
            setattr(pipeline, name, value)


@contextlib.contextmanager
def _without_initialisation(torch: Any) -> Iterator[None]:
    """
    Modules made meanwhile keep whatever memory they got, in bf16 from the start: the text encoder's 5.7 billion
    parameters are drawn at random in single precision (23 GB) before the file replaces every one of them.
    """
    drawn = ("uniform_", "normal_", "kaiming_uniform_", "xavier_uniform_", "ones_", "zeros_", "constant_")
    original = {name: getattr(torch.nn.init, name) for name in drawn}
    dtype = torch.get_default_dtype()
    for name in drawn:
        setattr(torch.nn.init, name, lambda tensor, *_arguments, **_named: tensor)
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        for name, function in original.items():
            setattr(torch.nn.init, name, function)
