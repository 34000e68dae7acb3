"""
Audio features of a whole job, in bounded memory.

wav2vec2 looks at the whole file: its attention is global, and the samples are normalised over the file. Up to
`WHOLE_SECONDS` upstream's own function does it in one piece. Longer audio goes through in windows with context on both
sides, normalised over the whole file; how well that agrees is measured (`docs/gpu-results.md`).

A job's features are 1.28 MB for each second, 4.6 GB an hour, so they are in a file without a name, not in memory.
"""

from __future__ import annotations

import math
import os
import tempfile
import wave
from typing import Any

from .failures import Failure
from .span import CLIP_FRAMES

SAMPLE_RATE = 16_000
FPS = 25
#: Layers of wav2vec2-large with its input, and their width.
LAYERS, CHANNELS = 25, 1024
#: Longest audio that is encoded in one piece: about 10 MB of GPU memory for each second.
WHOLE_SECONDS = 90
#: A window's own part and its context on each side, seconds. Both are whole numbers of wav2vec2's 20 ms steps.
WINDOW_SECONDS = 40
CONTEXT_SECONDS = 20
#: wav2vec2's convolutions: one step for each 320 samples, each seeing 400.
_STEP, _FIELD = 320, 400
#: Rate to which upstream stretches the features before it picks those of the video's frames.
_MODEL_FPS = 30
_FRAME_BYTES = LAYERS * CHANNELS * 2


class Features:
    """Features of a job by frame, bfloat16, in an unlinked file."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._file = tempfile.TemporaryFile(prefix="clipfarm-audio-")

    def write(self, torch: Any, first: int, features: Any) -> None:
        """Stores `features` [frames, layers, channels] from frame `first` on."""
        if features.shape[0] == 0:
            return
        data = features.to(device="cpu", dtype=torch.bfloat16).contiguous().view(torch.uint8).numpy()
        os.pwrite(self._file.fileno(), memoryview(data).cast("B"), first * _FRAME_BYTES)

    def read(self, torch: Any, first: int, end: int) -> Any:
        """Features [1, layers, channels, end - first] of frames from `first` on; zeros beyond the last."""
        count = max(0, min(end, self.frames) - first)
        features = torch.zeros((end - first, LAYERS, CHANNELS), dtype=torch.bfloat16)
        if count > 0:
            raw = bytearray(os.pread(self._file.fileno(), count * _FRAME_BYTES, first * _FRAME_BYTES))
            stored = torch.frombuffer(raw, dtype=torch.bfloat16)
            features[:count] = stored.view(count, LAYERS, CHANNELS)
        return features.permute(1, 2, 0).unsqueeze(0)

    def close(self) -> None:
        """Frees the disk space."""
        self._file.close()


class LazyAudio:
    """
    What `encode_audio` returns to `generate()`: of it only `[..., left:right]` is used, with the call's own frame
    numbers. Clips beyond the audio hear nothing, which upstream never gets to ask.
    """

    def __init__(self, torch: Any, features: Features, first_frame: int, device: Any, dtype: Any) -> None:
        self._torch = torch
        self._features = features
        self._first = first_frame
        self._device = device
        self._dtype = dtype

    def __getitem__(self, index: tuple[Any, slice]) -> Any:
        left, right = self._first + index[1].start, self._first + index[1].stop
        return self._features.read(self._torch, left, right).to(device=self._device, dtype=self._dtype)


def read_samples(path: str) -> Any:
    """Samples in [-1, 1) of a 16 kHz mono WAV with 16 bits, as librosa reads them. Throws Failure `bad_input`."""
    import numpy

    try:
        with wave.open(path, "rb") as file:
            form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise Failure("bad_input", f"the audio can't be read: {error}") from error
    if form != (SAMPLE_RATE, 1, 2):
        message = (
            f"the audio has {form[0]} Hz, {form[1]} channels, {form[2]} bytes a sample; 16000, 1 and 2 are accepted"
        )
        raise Failure("bad_input", message)
    return numpy.frombuffer(data, dtype="<i2").astype(numpy.float32) / 32768


def duration_seconds(path: str) -> float:
    """Seconds of a WAV by its header. Throws Failure `bad_input`."""
    try:
        with wave.open(path, "rb") as file:
            return file.getnframes() / file.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError) as error:
        raise Failure("bad_input", f"the audio can't be read: {error}") from error


def model_frames(samples: int) -> tuple[int, int]:
    """Steps of wav2vec2 at 50 Hz for that many samples, and upstream's frames at 30 Hz."""
    steps = max(0, (samples - _FIELD) // _STEP + 1)
    return steps, int(steps / 50 * _MODEL_FPS)


def clips_of(samples: int) -> int:
    """Clips that upstream makes of that much audio."""
    return int(model_frames(samples)[1] / (CLIP_FRAMES * _MODEL_FPS / FPS)) + 1


def from_embedding(torch: Any, embedding: Any, clips: int) -> Features:
    """Features that upstream's `encode_audio` made: [1, layers, channels, frames]."""
    features = Features(clips * CLIP_FRAMES)
    features.write(torch, 0, embedding[0].permute(2, 0, 1))
    return features


def in_windows(
    torch: Any,
    encoder: Any,
    samples: Any,
    device: Any,
    window_seconds: float = WINDOW_SECONDS,
    context_seconds: float = CONTEXT_SECONDS,
) -> Features:
    """
    Features of any length of audio.

    @param encoder upstream's AudioEncoder, its model on `device`
    @param samples whole file, float32
    """
    normalised = encoder.processor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
    steps, frames30 = model_frames(len(samples))
    features = Features(clips_of(len(samples)) * CLIP_FRAMES)
    positions = _positions(features.frames, steps, frames30)
    window, context = int(window_seconds * 50), int(context_seconds * 50)
    written = 0
    for own_start in range(0, steps, window):
        own_end = min(own_start + window, steps)
        start, end = max(0, own_start - context), min(steps, own_end + context + 1)
        part = normalised[:, start * _STEP : (end - 1) * _STEP + _FIELD]
        with torch.no_grad():
            result = encoder.model(part.to(device=device, dtype=encoder.model.dtype), output_hidden_states=True)
            hidden = torch.cat(result.hidden_states).float()
        # A frame belongs to the window that holds the step before it; the one after it may be context.
        last = own_end == steps
        own = [p for p in positions[written:] if p < own_end or last]
        if own:
            at = torch.tensor(own, dtype=torch.float64, device=device) - start
            low = at.floor().long().clamp(max=end - start - 1)
            high = (low + 1).clamp(max=end - start - 1)
            share = (at - low).to(torch.float32).view(1, -1, 1)
            mixed = hidden[:, low] * (1 - share) + hidden[:, high] * share
            features.write(torch, written, mixed.permute(1, 0, 2))
            written += len(own)
        del result, hidden
    features.write(torch, written, torch.zeros((features.frames - written, LAYERS, CHANNELS), dtype=torch.bfloat16))
    return features


def _positions(frames: int, steps: int, frames30: int) -> list[float]:
    """
    Where the video's frames are among wav2vec2's steps, by upstream's two stages: stretch to 30 Hz with the ends
    aligned, then pick the nearest of those. Frames beyond the audio have none.
    """
    if frames30 < 1:
        return []
    scale = (steps - 1) / (frames30 - 1) if frames30 > 1 else 0.0
    picked = (_round_half_even(frame * _MODEL_FPS / FPS) for frame in range(frames))
    return [index * scale for index in picked if index < frames30]


def _round_half_even(value: float) -> int:
    return int(math.floor(value)) if value - math.floor(value) < 0.5 else round(value)
