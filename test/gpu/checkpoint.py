"""
Builds a complete checkpoint with random weights, in the layout of files that upstream loads: nothing has to be
downloaded to measure time and memory, or to prove equality, and the real way of loading is used.

    python3 test/gpu/checkpoint.py --checkout /path/to/LiveAvatar --out /path/to/checkpoint

The full size takes 47 GB of disk. `--tiny` makes a model of one layer for a run without a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import upstream  # noqa: E402

TRANSFORMER = {
    "_class_name": "CausalWanModel_S2V",
    "_diffusers_version": "0.34.0",
    "adain_mode": "attn_norm",
    "add_last_motion": True,
    "audio_dim": 1024,
    "audio_inject_layers": [0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39],
    "cond_dim": 16,
    "dim": 5120,
    "enable_adain": True,
    "enable_framepack": True,
    "enable_motioner": False,
    "enable_tsm": False,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "framepack_drop_mode": "padd",
    "freq_dim": 256,
    "in_dim": 16,
    "model_type": "s2v",
    "num_audio_token": 4,
    "num_heads": 40,
    "num_layers": 40,
    "out_dim": 16,
    "text_len": 512,
    "zero_init": True,
    "zero_timestep": True,
}
TINY_TRANSFORMER = {"audio_inject_layers": [0], "ffn_dim": 256, "num_layers": 1}
#: wav2vec2-large-xlsr-53; the tiny one has the same layers and channels, which the pipeline counts on.
WAV2VEC = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "vocab_size": 33,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
SHARD_BYTES = 5 * 10**9
LORA_RANK = 128
LORA_TARGETS = ("q", "k", "v", "o", "ffn.0", "ffn.2")


class Weights:
    """Random weights on a device, the same for the same seed, device and order."""

    def __init__(self, torch: Any, device: str, seed: int) -> None:
        self._torch = torch
        self._device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def like(self, name: str, shape: tuple[int, ...], scale: float | None = None) -> Any:
        """A tensor for a parameter: norms near 1, biases small, the rest so that activations keep their size."""
        torch = self._torch
        noise = torch.randn(shape, generator=self._generator, device=self._device, dtype=torch.bfloat16)
        leaf = name.rsplit(".", 1)[-1]
        # A norm's gain has one number for a channel, in whatever shape.
        if leaf == "gamma" or ("norm" in name and leaf == "weight" and len(shape) == 1):
            return (1 + 0.02 * noise).cpu()
        if scale is None:
            fan_in = 1
            for size in shape[1:]:
                fan_in *= size
            scale = 0.02 if len(shape) < 2 else fan_in**-0.5
        return noise.mul_(scale).cpu()


def transformer(torch: Any, pipeline: Any, weights: Weights, out: Path, config: dict[str, Any]) -> list[Future[None]]:
    """Shards, index and config of the transformer; writes in threads."""
    from accelerate import init_empty_weights
    from safetensors.torch import save_file

    out.joinpath("config.json").write_text(json.dumps(config, indent=2))
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    with init_empty_weights():
        model = pipeline.CausalWanModel_S2V(**arguments)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    print(f"transformer: {sum(parameter.numel() for parameter in model.parameters()) / 1e9:.3f} G parameters")
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        count = 2
        for length in shape:
            count *= length
        if size + count > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += count
    pool = ThreadPoolExecutor(3)
    written: list[Future[None]] = []
    index: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: weights.like(name, shape) for name, shape in shard.items()}
        index.update(dict.fromkeys(shard, file))
        written.append(pool.submit(save_file, tensors, str(out / file)))
    total = sum(2 * parameter.numel() for parameter in model.parameters())
    out.joinpath("diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index})
    )
    lora: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and any(name == end or name.endswith(f".{end}") for end in LORA_TARGETS):
            prefix = f"base_model.model.{name}"
            down = (LORA_RANK, module.in_features)
            up = (module.out_features, LORA_RANK)
            lora[f"{prefix}.lora_A.default.weight"] = weights.like("lora_A", down)
            lora[f"{prefix}.lora_B.default.weight"] = weights.like("lora_B", up, scale=1e-3)
    out.joinpath("lora").mkdir(exist_ok=True)
    written.append(pool.submit(save_file, lora, str(out / "lora" / "liveavatar.safetensors")))
    pool.shutdown(wait=False)
    return written


def text_encoder(torch: Any, t5: Any, weights: Weights, out: Path) -> None:
    """The T5 encoder's .pth, and a small tokenizer in the files of the real one."""
    with torch.device("meta"):
        model = t5.umt5_xxl(encoder_only=True, return_tokenizer=False, dtype=torch.bfloat16, device="meta")
    state = {}
    for name, parameter in model.state_dict().items():
        state[name] = weights.like(name, tuple(parameter.shape), scale=1.0 if "token_embedding" in name else None)
    torch.save(state, out / "models_t5_umt5-xxl-enc-bf16.pth")
    directory = out / "google" / "umt5-xxl"
    directory.mkdir(parents=True, exist_ok=True)
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    letters = [(chr(code), -5.0) for code in range(33, 127)] + [("\u2581", -3.0)]
    tokenizer = Tokenizer(models.Unigram(special + letters, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **names}
    directory.joinpath("tokenizer_config.json").write_text(json.dumps(settings))


def video_decoder(torch: Any, vae: Any, weights: Weights, out: Path, tiny: bool) -> None:
    """The VAE's .pth."""
    with torch.device("meta"):
        model = vae.WanVAE_(
            dim=upstream.TINY_VAE if tiny else 96,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
            dropout=0.0,
        )
    state = {name: weights.like(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    torch.save(state, out / "Wan2.1_VAE.pth")


def audio_encoder(weights: Weights, out: Path, tiny: bool) -> None:
    """wav2vec2 with its processor."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
    from transformers import Wav2Vec2Processor

    directory = out / "wav2vec2-large-xlsr-53-english"
    directory.mkdir(exist_ok=True)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**{**WAV2VEC, **({"intermediate_size": 64} if tiny else {})}))
    for name, parameter in model.named_parameters():
        parameter.data = weights.like(name, tuple(parameter.shape)).to(parameter.dtype)
    model.save_pretrained(directory)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'-"]
    directory.joinpath("vocab.json").write_text(json.dumps({letter: place for place, letter in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(directory / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=16000, padding_value=0.0, do_normalize=True, return_attention_mask=True
    )
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(directory)


def build(checkout: Path, out: Path, tiny: bool, seed: int = 7) -> None:
    """Builds everything; prints the seconds of each part."""
    if tiny:
        upstream.run_on_cpu()
    modules = upstream.import_checkout(checkout, compiled=False)
    torch = modules.torch
    if tiny:
        upstream.shrink(modules)
    out.mkdir(parents=True, exist_ok=True)
    weights = Weights(torch, "cpu" if tiny else "cuda", seed)
    config = {**TRANSFORMER, **(TINY_TRANSFORMER if tiny else {})}
    began = time.monotonic()
    with torch.no_grad():
        written = transformer(torch, modules.pipeline, weights, out, config)
        print(f"transformer drawn: {time.monotonic() - began:.0f} s")
        text_encoder(torch, modules.t5, weights, out)
        print(f"text encoder: {time.monotonic() - began:.0f} s")
        video_decoder(torch, modules.streaming_vae, weights, out, tiny)
        audio_encoder(weights, out, tiny)
    for each in written:
        each.result()
    print(f"all: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    build(given.checkout.resolve(), given.out.resolve(), given.tiny)
