"""Raw PCM: the sample format used throughout, and what can be read off it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from audio_io.errors import AudioFormatError

SAMPLE_RATE_HZ = 16_000
"""The rate of all audio inside; what the models and the voice activity detectors take."""

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

SILENCE_DBFS = -100.0
"""The level given for digital silence, which has none; 10 dB below samples of plus and minus 1."""

Int16Array = NDArray[np.int16]
Float32Array = NDArray[np.float32]

_FULL_SCALE = 32_768


def pcm16_from_bytes(data: bytes) -> Int16Array:
    """The samples, int16 (n,), of little-endian 16-bit PCM; a view on `data`, so read-only.

    Raises AudioFormatError for an odd number of bytes.
    """
    if len(data) % 2:
        raise AudioFormatError(
            f"16-bit PCM takes two bytes a sample, so {len(data)} bytes, an odd number, "
            "can't be whole samples."
        )
    return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)


def to_float32(samples: Int16Array) -> Float32Array:
    """int16 of any shape to a new float32 array of the same shape, in [-1, 1)."""
    return np.multiply(samples, 1 / _FULL_SCALE, dtype=np.float32)


def level_dbfs(samples: Int16Array) -> float:
    """The RMS level of `samples`, int16 (n,), relative to a full-scale square wave.

    0 at most; SILENCE_DBFS at least, which digital silence and no samples at all give.
    """
    if not len(samples):
        return SILENCE_DBFS
    wide = samples.astype(np.float64)
    power = float(np.dot(wide, wide)) / len(wide) / _FULL_SCALE**2
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power else SILENCE_DBFS
