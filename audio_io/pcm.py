"""Raw PCM: the sample format used throughout, and what can be read off it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from audio_io.errors import AudioFormatError

SAMPLE_RATE_HZ = 16_000
"""The rate of all audio inside; what the models and the voice activity detectors take."""

G711_RATE_HZ = 8_000
"""What telephones send."""

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

SILENCE_DBFS = -100.0
"""The level given for digital silence, which has none; 10 dB below samples of plus and minus 1."""

Int16Array = NDArray[np.int16]
Float32Array = NDArray[np.float32]

_FULL_SCALE = 32_768


def _mulaw_table() -> Int16Array:
    """What each byte stands for: a sign, the place of the first bit, and the four after it.

    ITU-T G.711, table 2, scaled from 14 bits to 16. All bits of the byte are inverted.
    """
    codes = ~np.arange(256, dtype=np.uint8)
    exponents, mantissas = (codes >> 4) & 7, (codes & 15).astype(np.int16)
    bias = 33 << 2
    levels = (((mantissas << 3) + bias) << exponents) - bias
    table: Int16Array = np.where(codes & 0x80, -levels, levels).astype(np.int16)
    return table


def _alaw_table() -> Int16Array:
    """The same for A-law, whose lowest two eighths are linear.

    ITU-T G.711, table 1, scaled from 13 bits to 16. Every other bit of the byte is inverted.
    """
    codes = np.arange(256, dtype=np.uint8) ^ 0x55
    exponents, mantissas = (codes >> 4) & 7, (codes & 15).astype(np.int16)
    first_bit = np.where(exponents > 0, 0x108, 8)
    levels = ((mantissas << 4) + first_bit) << np.maximum(exponents, 1) - 1
    table: Int16Array = np.where(codes & 0x80, levels, -levels).astype(np.int16)
    return table


_MULAW, _ALAW = _mulaw_table(), _alaw_table()


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


def mulaw_from_bytes(data: bytes) -> Int16Array:
    """The samples, int16 (n,), of G.711 μ-law: one byte a sample, as telephones send it."""
    return _MULAW[np.frombuffer(data, dtype=np.uint8)]


def alaw_from_bytes(data: bytes) -> Int16Array:
    """The samples, int16 (n,), of G.711 A-law: one byte a sample, as telephones send it."""
    return _ALAW[np.frombuffer(data, dtype=np.uint8)]


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
