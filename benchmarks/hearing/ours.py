"""Our own hearing on a scene: the segmenter as the server runs it, fed as a microphone would."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from audio_io.endpointer import TurnDetection
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from audio_io.segmenter import SpeechSegmenter
from audio_io.silero import WINDOW_SAMPLES
from audio_io.speech_events import PartEnded, SpeechStarted, SpeechStopped
from audio_io.vad import VoiceActivityDetector
from benchmarks.hearing.scoring import HeardTurn

CHUNK_SAMPLES = 20 * SAMPLES_PER_MS


class Replay:
    """What a detector said about a stream, said again, so that many settings can be tried."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        self._probabilities = iter(probabilities)

    def probability(self, window: Int16Array) -> float:
        return next(self._probabilities)

    def reset(self) -> None:
        raise NotImplementedError("a stream is heard once")


def probabilities(samples: Int16Array, detector: VoiceActivityDetector) -> list[float]:
    """One for each whole window. `detector` is fresh."""
    stop = len(samples) - WINDOW_SAMPLES + 1
    return [
        detector.probability(samples[at : at + WINDOW_SAMPLES])
        for at in range(0, stop, WINDOW_SAMPLES)
    ]


def heard_turns(
    samples: Int16Array, said: Sequence[float], detection: TurnDetection
) -> list[HeardTurn]:
    """The turns that the segmenter finds, where its detector says `said` of the windows."""
    hearing = SpeechSegmenter(Replay(said), detection)
    turns: list[HeardTurn] = []
    audio_start = decided_start = 0
    for chunk in _chunks(samples):
        for event in hearing.feed(chunk, SAMPLE_RATE_HZ):
            match event:
                case SpeechStarted(start):
                    audio_start, decided_start = start, hearing.position_samples
                case SpeechStopped(_, speech_end, _):
                    end = hearing.position_samples
                    turns.append(HeardTurn(audio_start, decided_start, speech_end, end))
    if hearing.speaking:
        turns.append(HeardTurn(audio_start, decided_start, len(samples), len(samples)))
    return turns


def part_ends(samples: Int16Array, said: Sequence[float]) -> list[int]:
    """Where speech over 30 s was cut."""
    hearing = SpeechSegmenter(Replay(said))
    events = [event for chunk in _chunks(samples) for event in hearing.feed(chunk, SAMPLE_RATE_HZ)]
    return [event.utterance.end_sample for event in events if isinstance(event, PartEnded)]


def cpu_ms_per_s(samples: Int16Array, detector: VoiceActivityDetector) -> float:
    """ms of one core for each second of the stream, from samples to events."""
    hearing = SpeechSegmenter(detector)
    start = time.process_time()
    for chunk in _chunks(samples):
        hearing.feed(chunk, SAMPLE_RATE_HZ)
    spent_ms = (time.process_time() - start) * 1000
    return spent_ms / (len(samples) / SAMPLE_RATE_HZ)


def silence(duration_s: float) -> Int16Array:
    """A quiet room: white noise of -60 dBFS."""
    noise = np.random.default_rng(0).normal(0, 32.8, round(duration_s * SAMPLE_RATE_HZ))
    return np.rint(noise).astype(np.int16)


def _chunks(samples: Int16Array) -> Iterator[Int16Array]:
    return (samples[at : at + CHUNK_SAMPLES] for at in range(0, len(samples), CHUNK_SAMPLES))
