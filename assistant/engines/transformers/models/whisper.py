"""The audio front end that most models have from Whisper."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from audio_io.pcm import Int16Array

WINDOW_S = 30


def log_mel(
    extractor: Any, samples: Int16Array, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """int16 (n,), 16 kHz mono, at most 30 s, to what the encoders take.

    Returns the spectrogram, (1, mel bins, frames) of 30 s, and which of its frames are not
    padding, (1, frames).
    """
    features = extractor(
        samples.astype("float32") / 32_768,
        sampling_rate=extractor.sampling_rate,
        padding="max_length",
        # Some are made for five minutes, which would all be padding.
        max_length=min(extractor.n_samples, WINDOW_S * extractor.sampling_rate),
        return_attention_mask=True,
        return_tensors="pt",
        device=str(device),
    )
    return features["input_features"].to(device), features["attention_mask"].to(device)


def short_log_mel(extractor: Any, samples: Int16Array, device: torch.device) -> torch.Tensor:
    """The beginning of the same spectrogram, as far as the sound reaches in it: (1, bins, frames).

    That is as far as an encoder looks which halves the frames: 2 beyond those of the sound.
    """
    hop: int = extractor.hop_length
    # A frame reaches beyond its hop, and what it sees there is silence too.
    filled = np.pad(samples, (0, -len(samples) % hop + 4 * hop))
    features = extractor(
        filled[: WINDOW_S * extractor.sampling_rate].astype("float32") / 32_768,
        sampling_rate=extractor.sampling_rate,
        padding=False,
        return_tensors="pt",
        device=str(device),
    )
    frames = frames_in_use(extractor, len(samples)) + 2
    spectrogram: torch.Tensor = features["input_features"][:, :, :frames]
    return spectrogram.to(device)


def frames_in_use(extractor: Any, sample_count: int) -> int:
    """How many frames of a spectrogram are not padding."""
    return -(-sample_count // int(extractor.hop_length))
