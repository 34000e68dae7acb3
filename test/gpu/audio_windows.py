"""How well audio features from windows agree with those of the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rig
from live_avatar import audio
from live_avatar.model import LiveAvatar

#: (own part, context on each side), seconds.
WINDOWS = ((40, 20), (40, 10), (40, 2))
CLIPS = 78  # 150 s, which still fits in one piece


def agreement(engine: LiveAvatar, directory: Path) -> dict[str, Any]:
    """Cosine and relative error by width of the windows, over all layers, and over the last one."""
    torch, wan = engine.torch, engine._wan
    path = str(rig.make_inputs(directory, 64, 64, CLIPS).audio)
    samples = audio.read_samples(path)
    encoder = wan.audio_encoder
    encoder.model.to(device=wan.device, dtype=wan.param_dtype).requires_grad_(False).eval()
    with torch.no_grad():
        embedding, clips = type(wan).encode_audio(wan, path, 48)
    whole = audio.from_embedding(torch, embedding, clips)
    reference = whole.read(torch, 0, whole.frames).float()
    result: dict[str, Any] = {"seconds": len(samples) / audio.SAMPLE_RATE, "clips": clips, "windows": []}
    for own, context in WINDOWS:
        windows = audio.in_windows(torch, encoder, samples, wan.device, own, context)
        assert windows.frames == whole.frames
        features = windows.read(torch, 0, windows.frames).float()
        cosine = torch.nn.functional.cosine_similarity(features, reference, dim=2)[0]
        heard = reference.abs().sum(dim=(1, 2))[0] > 0
        result["windows"].append(
            {
                "ownSeconds": own,
                "contextSeconds": context,
                "cosineMean": float(cosine[:, heard].mean()),
                "cosineWorst": float(cosine[:, heard].min()),
                "relativeError": float((features - reference).norm() / reference.norm()),
            }
        )
        windows.close()
    encoder.model.to("cpu")
    whole.close()
    return result
