"""How others tell turns apart, by their published defaults: the rule alone, of each the least.

All but the last go by Silero's probabilities, the same that we get. Their turn-end models aren't
here, which hold a turn back that sounds unfinished (Smart Turn: Pipecat by 3 s, speech-to-speech
by 2 s) and cost time and cut-ins of their own; nor is Pipecat's least volume, which would miss
quiet voices. Positions are as of the end of the 20 ms chunk that brought the decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import webrtcvad

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from audio_io.silero import WINDOW_SAMPLES
from benchmarks.hearing.ours import CHUNK_SAMPLES
from benchmarks.hearing.scoring import HeardTurn

_WINDOW_MS = WINDOW_SAMPLES / SAMPLES_PER_MS

Rule = Callable[[Int16Array, Sequence[float]], list[HeardTurn]]
"""From a stream, int16 (n,), and Silero's probability for each window, to the turns."""


class _Turns:
    """Collects turns as they start and stop."""

    def __init__(self) -> None:
        self.done: list[HeardTurn] = []
        self._open: tuple[int, int] | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def start(self, audio_start: int, decided: int) -> None:
        self._open = (max(0, audio_start), _heard(decided))

    def stop(self, speech_end: int, decided: int) -> None:
        assert self._open is not None
        audio_start, start_decided = self._open
        self.done.append(HeardTurn(audio_start, start_decided, speech_end, _heard(decided)))
        self._open = None

    def all(self, samples: Int16Array) -> list[HeardTurn]:
        if self._open is not None:
            self.stop(len(samples), len(samples))
        return self.done


def pipecat(samples: Int16Array, probabilities: Sequence[float]) -> list[HeardTurn]:
    """1.14: .7 for 0.2 s in a row starts, below it for 0.2 s stops; 0.5 s of audio from before."""
    needed = round(200 / _WINDOW_MS)
    turns, in_a_row, speech_end = _Turns(), 0, 0
    for end, probability in _windows(probabilities):
        voiced = probability >= 0.7
        in_a_row = in_a_row + 1 if voiced != turns.is_open else 0
        if voiced:
            speech_end = end
        if in_a_row < needed:
            continue
        in_a_row = 0
        if turns.is_open:
            turns.stop(speech_end, end)
        else:
            turns.start(end - needed * WINDOW_SAMPLES - 500 * SAMPLES_PER_MS, end)
    return turns.all(samples)


def livekit(samples: Int16Array, probabilities: Sequence[float]) -> list[HeardTurn]:
    """Its Silero plugin: .5 for 50 ms starts, below .35 for 550 ms stops, over smoothed values."""
    turns, smoothed, speech_ms, silence_ms, speech_end = _Turns(), 0.0, 0.0, 0.0, 0
    for end, probability in _windows(probabilities):
        smoothed += (probability - smoothed) * 0.65
        if smoothed >= 0.5 or (turns.is_open and smoothed > 0.35):
            speech_ms, silence_ms, speech_end = speech_ms + _WINDOW_MS, 0.0, end
            if not turns.is_open and speech_ms >= 50:
                turns.start(end - round((speech_ms + 500) * SAMPLES_PER_MS), end)
        else:
            speech_ms, silence_ms = 0.0, silence_ms + _WINDOW_MS
            if turns.is_open and silence_ms >= 550:
                turns.stop(speech_end, end)
    return turns.all(samples)


def speech_to_speech(gate_ms: int) -> Rule:
    """1.1: .6 starts, below .45 for 64 ms stops, if there were 384 ms of speech; the reply is then
    held behind a gate (800 ms; 300 when tuned for speed), and 192 ms of speech reopen the turn."""

    def rule(samples: Int16Array, probabilities: Sequence[float]) -> list[HeardTurn]:
        turns = _Turns()
        segment_start: int | None = None
        silent_from: int | None = None
        gate: tuple[int, int] | None = None  # where speech ended, and when that is final
        for end, probability in _windows(probabilities):
            if probability >= 0.6:
                segment_start = end - WINDOW_SAMPLES if segment_start is None else segment_start
                silent_from = None
            if segment_start is None:
                if gate is not None and end >= gate[1]:
                    turns.stop(gate[0], end)
                    gate = None
                continue
            spoken_ms = ((silent_from or end) - segment_start) / SAMPLES_PER_MS
            if not turns.is_open and spoken_ms >= 384:
                turns.start(segment_start - 500 * SAMPLES_PER_MS, end)
            if spoken_ms >= 192:
                gate = None
            if probability < 0.45:
                # Counted from the end of the first silent window.
                silent_from = end if silent_from is None else silent_from
                if end - silent_from >= 64 * SAMPLES_PER_MS:
                    if turns.is_open and gate is None:
                        gate = silent_from - WINDOW_SAMPLES, end + gate_ms * SAMPLES_PER_MS
                    segment_start = silent_from = None
        return turns.all(samples)

    return rule


def fastrtc(samples: Int16Array, probabilities: Sequence[float]) -> list[HeardTurn]:
    """0.0.34, ReplyOnPause: a chunk of 0.6 s with speech starts, the first without stops.

    A chunk holds speech where a window at .5 comes 250 ms before its end: with its 2 s of least
    silence and 0.4 s of padding, whatever follows in the chunk counts too.
    """
    chunk = 600 * SAMPLES_PER_MS
    turns, speech_end = _Turns(), 0
    for start in range(0, len(samples) - chunk + 1, chunk):
        latest = start + chunk - 250 * SAMPLES_PER_MS
        first, last = -(-start // WINDOW_SAMPLES), latest // WINDOW_SAMPLES
        has_speech = any(p >= 0.5 for p in probabilities[first:last])
        if has_speech:
            speech_end = start + chunk
        if has_speech and not turns.is_open:
            turns.start(start, start + chunk)
        elif turns.is_open and not has_speech:
            turns.stop(speech_end, start + chunk)
    return turns.all(samples)


def plain_webrtcvad(samples: Int16Array, _: Sequence[float]) -> list[HeardTurn]:
    """The example that comes with py-webrtcvad, in mode 3: ten frames of 30 ms, over nine tenths
    of them voiced to start, over nine tenths unvoiced to stop."""
    vad = webrtcvad.Vad(3)
    frame, turns, speech_end = 30 * SAMPLES_PER_MS, _Turns(), 0
    ring: deque[bool] = deque(maxlen=10)
    for end in range(frame, len(samples) + 1, frame):
        ring.append(vad.is_speech(samples[end - frame : end].tobytes(), SAMPLE_RATE_HZ))
        if ring[-1]:
            speech_end = end
        if not turns.is_open and sum(ring) > 9:
            turns.start(end - 10 * frame, end)
            ring.clear()
        elif turns.is_open and len(ring) - sum(ring) > 9:
            turns.stop(speech_end, end)
            ring.clear()
    return turns.all(samples)


RIVALS: dict[str, Rule] = {
    "Pipecat: .7, 0.2 s": pipecat,
    "LiveKit: 0.55 s": livekit,
    "speech-to-speech: gate 0.8 s": speech_to_speech(800),
    "speech-to-speech: gate 0.3 s": speech_to_speech(300),
    "FastRTC: 0.6 s chunks": fastrtc,
    "plain webrtcvad": plain_webrtcvad,
}


def _windows(probabilities: Sequence[float]) -> list[tuple[int, float]]:
    """Each window's end, in samples, and its probability."""
    return [(index * WINDOW_SAMPLES, p) for index, p in enumerate(probabilities, 1)]


def _heard(sample: int) -> int:
    return -(-sample // CHUNK_SAMPLES) * CHUNK_SAMPLES
