"""Any sample rate and channel count to 16 kHz mono, as the audio comes."""

from __future__ import annotations

import numpy as np
import soxr

from audio_io.errors import AudioFormatError
from audio_io.pcm import SAMPLE_RATE_HZ, Float32Array, Int16Array

LOWEST_RATE_HZ = 8_000
"""Telephony; below it there is too little of a voice left to understand."""
HIGHEST_RATE_HZ = 192_000
"""The most that sound cards deliver."""

# At equal CPU, HQ holds back 21 ms of the newest audio (median; 37 at most) and LQ 11 (20), and
# every one of them is waited for at the end of a turn. What LQ lets alias is below -115 dB.
_QUALITY = "LQ"

_NOTHING = np.zeros(0, dtype=np.int16)


class Resampler:
    """One stream of audio at one rate. The output is the same for every chunking of the input."""

    def __init__(self, source_rate_hz: int) -> None:
        """Raises AudioFormatError for a rate outside 8 to 192 kHz."""
        if not LOWEST_RATE_HZ <= source_rate_hz <= HIGHEST_RATE_HZ:
            raise AudioFormatError(
                f"A sample rate of {source_rate_hz} Hz can't be used; "
                f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can."
            )
        self.source_rate_hz = source_rate_hz
        # Floats, because soxr dithers the integers it puts out, differently for each chunking.
        self._stream = (
            soxr.ResampleStream(source_rate_hz, SAMPLE_RATE_HZ, 1, "float32", _QUALITY)
            if source_rate_hz != SAMPLE_RATE_HZ
            else None
        )

    def feed(self, samples: Int16Array) -> Int16Array:
        """What `samples` complete: int16 (n,), 16 kHz mono.

        samples: int16 (n,), or (n, channels), which are averaged; at the source rate. 16 kHz mono
        is returned as it is, without a copy.
        """
        if not len(samples):
            return _NOTHING
        if self._stream is None:
            return samples if samples.ndim == 1 else _rounded(_averaged(samples))
        # As (n, 1), which soxr takes as it is.
        return _rounded(self._stream.resample_chunk(_averaged(samples)[:, None])[:, 0])

    def flush(self) -> Int16Array:
        """What was held back, int16 (n,), 16 kHz mono; what is fed next begins a new stream."""
        if self._stream is None:
            return _NOTHING
        rest = self._stream.resample_chunk(np.zeros((0, 1), dtype=np.float32), last=True)
        self._stream.clear()
        return _rounded(rest[:, 0])


def _averaged(samples: Int16Array) -> Float32Array:
    if samples.ndim == 1:
        return samples.astype(np.float32)
    mean: Float32Array = samples.mean(axis=1, dtype=np.float32)
    return mean


def _rounded(samples: Float32Array) -> Int16Array:
    """int16 (n,) of float32 (n,), which is overwritten."""
    np.rint(samples, out=samples)
    # The filter overshoots where loud speech is already clipped.
    return samples.clip(-32_768, 32_767, out=samples).astype(np.int16)
