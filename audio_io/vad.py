"""Is somebody speaking? One interface and three detectors.

All hear 32 ms windows and answer with a number between 0 and 1. `benchmarks.hearing` measures what
each of them misses, takes for speech, and costs.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol, assert_never

import webrtcvad

from audio_io.noise_gate import NoiseGate
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from audio_io.silero import SileroVad

VadKind = Literal["cascade", "silero", "webrtc"]


class VoiceActivityDetector(Protocol):
    """Hears one stream, window by window, and remembers what came before."""

    def probability(self, window: Int16Array) -> float:
        """How likely the window holds speech. window: int16 (512,), 16 kHz mono."""

    def reset(self) -> None:
        """Forget everything; the next window is the first of another stream."""


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
    turned down 10, and a quiet room costs a sixth. When it says yes, Silero first hears the windows
    before, which it was spared, since it judges by what came before.
    """

    _CONTEXT_WINDOWS = 8
    """256 ms. 99% of Silero's answers are then within .07 of those with all of the past."""
    _HOLD_WINDOWS = 32
    """1 s: within a turn, a pause doesn't make it start anew."""

    def __init__(self) -> None:
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


def make_detector(kind: VadKind) -> VoiceActivityDetector:
    """A detector for one stream. It costs next to nothing: streams share Silero's weights."""
    match kind:
        case "cascade":
            return CascadeVad()
        case "silero":
            return SileroVad()
        case "webrtc":
            return WebRtcVad()
    assert_never(kind)
