"""Stand-in: what the runner reads of the configuration."""

import types

import torch

WAN_CONFIGS = {
    "s2v-14B": types.SimpleNamespace(vae_checkpoint="Wan2.1_VAE.pth", param_dtype=torch.bfloat16),
}
