"""The audio front end that most models have from Whisper.

It computes what the library's `WhisperFeatureExtractor` does, with the numbers that are kept there.
That one goes through numpy and back, which for 30 s takes 5 ms on any machine and lets a GPU wait.
Here samples go to the device as they are, and what becomes of them stays there: some fifteen small
operations, of a hundredth of what a pause has to compute.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import pad

from audio_io.pcm import Int16Array

WINDOW_S = 30


def log_mel(
    extractor: Any, samples: Int16Array, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """int16 (n,), 16 kHz mono, at most 30 s, to what the encoders take.

    Returns the spectrogram, (1, mel bins, frames) of 30 s, and which of its frames are not
    padding, (1, frames).
    """
    # Some are made for five minutes, which would all be padding.
    most = min(extractor.n_samples, WINDOW_S * extractor.sampling_rate)
    spectrogram = _spectrogram(extractor, samples, most, device)
    frames = torch.arange(spectrogram.shape[-1], device=device)
    in_use = (frames < frames_in_use(extractor, len(samples))).long()
    return spectrogram[None], in_use[None]


def short_log_mel(extractor: Any, samples: Int16Array, device: torch.device) -> torch.Tensor:
    """The beginning of the same spectrogram, as far as the sound reaches in it: (1, bins, frames).

    That is as far as an encoder looks which halves the frames: 2 beyond those of the sound.
    """
    hop: int = extractor.hop_length
    frames = frames_in_use(extractor, len(samples)) + 2
    # A frame reaches beyond its hop, and what it sees there is silence too.
    filled = min((frames + 2) * hop, WINDOW_S * extractor.sampling_rate)
    return _spectrogram(extractor, samples, filled, device)[None, :, :frames]


def frames_in_use(extractor: Any, sample_count: int) -> int:
    """How many frames of a spectrogram are not padding."""
    return -(-sample_count // int(extractor.hop_length))


def _spectrogram(
    extractor: Any, samples: Int16Array, filled: int, device: torch.device
) -> torch.Tensor:
    """Of a sound that silence follows, up to so many samples in all: float32 (bins, frames)."""
    window, filters = _window_and_filters(extractor, device)
    heard = torch.tensor(samples, device=device) / 32_768
    spectrum = torch.stft(
        pad(heard, (0, filled - len(samples))),
        extractor.n_fft,
        extractor.hop_length,
        window=window,
        return_complex=True,
    )[:, :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    logs = (filters @ power).clamp(min=1e-10).log10()
    return (torch.maximum(logs, logs.max() - 8) + 4) / 4


@lru_cache(maxsize=4)
def _window_and_filters(extractor: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 (n_fft,) and (bins, n_fft / 2 + 1)."""
    filters = torch.from_numpy(extractor.mel_filters).to(device, torch.float32)
    return torch.hann_window(extractor.n_fft, device=device), filters.T.contiguous()
