"""
Randomness as a function of the job, the clip, the block and the step.

Upstream draws noise on the GPU, where the same seed gives other numbers on another GPU model, and takes the distance of
its attention sink from Python's global generator, which nobody seeds.
"""

from __future__ import annotations

from typing import Any


def clip_seed(base_seed: int, clip: int) -> int:
    """Seed of a clip's noise, whoever renders it: upstream's own rule, `seed + r`, over the clips of the whole job."""
    return base_seed + clip


def sampler_seed(base_seed: int, clip: int, block: int, step: int) -> str:
    """Seed of what one denoising step draws from Python's generator. A text: Python hashes it the same everywhere."""
    return f"live-avatar {base_seed} {clip} {block} {step}"


def host_noise(torch: Any, shape: tuple[int, ...], seed: int, dtype: Any, device: Any) -> Any:
    """
    Gaussian noise drawn on the host. In double precision, because PyTorch's vector code for single precision rounds
    differently on different CPUs; what is left of that after rounding to `dtype` is nothing.
    """
    generator = torch.Generator(device="cpu")
    generator.manual_seed(seed)
    noise = torch.randn(*shape, dtype=torch.float64, device="cpu", generator=generator)
    return noise.to(dtype=dtype).to(device=device)
