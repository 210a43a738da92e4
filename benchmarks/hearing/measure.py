"""Every hearer on every scene, summed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from audio_io.endpointer import TurnDetection
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.vad import VadKind, VoiceActivityDetector, make_detector
from benchmarks.hearing.labels import sensitivity_ms
from benchmarks.hearing.ours import cpu_ms_per_s, heard_turns, part_ends, probabilities, silence
from benchmarks.hearing.packaged import PackagedSilero
from benchmarks.hearing.recordings import Purpose, voices
from benchmarks.hearing.rivals import RIVALS
from benchmarks.hearing.scenes import (
    Condition,
    Scene,
    conversations,
    is_audible,
    monologues,
    noises,
    short_answers,
)
from benchmarks.hearing.scoring import Score, cuts_within_words, score

VADS: tuple[VadKind, ...] = ("cascade", "silero", "webrtc")
DEFAULT_VAD: VadKind = "cascade"
HOLDS_MS = range(300, 1_001, 50)
DEFAULT = TurnDetection()


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    turns: int
    """Per voice and condition."""
    words: int
    """The same, of turns that are one short word."""
    sounds: int
    """Of each kind."""
    monologue_s: float
    cpu_s: float


FULL = Size(turns=6, words=20, sounds=60, monologue_s=270, cpu_s=120)
QUICK = Size(turns=1, words=1, sounds=5, monologue_s=60, cpu_s=10)


@dataclass(slots=True)
class Measured:
    """The sums. Settings of ours are with the default detector where none is named."""

    streams: int = 0
    audio_s: float = 0.0
    by_condition: dict[VadKind, dict[Condition, Score]] = field(
        default_factory=lambda: {vad: defaultdict(Score) for vad in VADS}
    )
    by_sound: dict[str, dict[str, Score]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Score))
    )
    """Per hearer, then per kind of sound."""
    audible: dict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    """Per detector, rival or, for `700 ms` and the like, fixed hold: conversations at 5 dB and
    more, without the second voice."""
    short_answers: dict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    """Per detector or rival."""
    cuts: dict[VadKind, tuple[int, int]] = field(default_factory=dict)
    """Of long speech: how many are within a word, and how many there are."""
    cpu_ms_per_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Per detector, in speech and in a quiet room."""
    label_shift_ms: tuple[float, float] = (0.0, 0.0)
    """95% of people's true onsets and ends move by less when the labels' edge moves by 6 dB."""


def measure(purpose: Purpose, size: Size) -> Measured:
    """Takes three minutes for FULL on two cores."""
    measured = Measured(label_shift_ms=_label_shift_ms(purpose))
    for scene in conversations(purpose, size.turns):
        _add_conversation(measured, scene, _said(scene))
        _count(measured, scene)
    for scene in short_answers(purpose, size.words):
        for name, result in _scores(scene, _said(scene)):
            measured.short_answers[name] += result
        _count(measured, scene)
    for scene in noises(purpose, size.sounds):
        _add_sounds(measured, scene, _said(scene))
        _count(measured, scene)
    for scene in monologues(purpose, size.monologue_s):
        _add_monologue(measured, scene, _said(scene))
        _count(measured, scene)
    for name, detector in _timed_detectors():
        measured.cpu_ms_per_s[name] = _cost(purpose, size.cpu_s, detector)
    return measured


def hold_name(hold_ms: int) -> str:
    return f"{hold_ms} ms"


def _timed_detectors() -> Iterator[tuple[str, Callable[[], VoiceActivityDetector]]]:
    for vad in VADS:
        yield vad, partial(make_detector, vad)
    with suppress(ImportError):
        PackagedSilero()
        yield "silero by onnxruntime", PackagedSilero


def _cost(
    purpose: Purpose, duration_s: float, detector: Callable[[], VoiceActivityDetector]
) -> tuple[float, float]:
    """In speech and in a quiet room; the least of three runs, since others use the machine too."""
    speech = next(monologues(purpose, duration_s)).samples
    in_speech, in_silence = (
        min(cpu_ms_per_s(samples, detector()) for _ in range(3))
        for samples in (speech, silence(duration_s))
    )
    return in_speech, in_silence


def _said(scene: Scene) -> dict[VadKind, list[float]]:
    return {vad: probabilities(scene.samples, make_detector(vad)) for vad in VADS}


def _count(measured: Measured, scene: Scene) -> None:
    measured.streams += 1
    measured.audio_s += len(scene.samples) / SAMPLE_RATE_HZ


def _scores(scene: Scene, said: dict[VadKind, list[float]]) -> Iterator[tuple[str, Score]]:
    for vad in VADS:
        yield vad, score(scene, heard_turns(scene.samples, said[vad], DEFAULT))
    for name, rule in RIVALS.items():
        yield name, score(scene, rule(scene.samples, said["silero"]))


def _add_conversation(measured: Measured, scene: Scene, said: dict[VadKind, list[float]]) -> None:
    for name, result in _scores(scene, said):
        if name in VADS:
            measured.by_condition[name][scene.condition] += result
        if is_audible(scene.condition):
            measured.audible[name] += result
    if is_audible(scene.condition):
        for hold_ms in HOLDS_MS:
            detection = TurnDetection(silence_duration_ms=hold_ms)
            turns = heard_turns(scene.samples, said[DEFAULT_VAD], detection)
            measured.audible[hold_name(hold_ms)] += score(scene, turns)


def _add_sounds(measured: Measured, scene: Scene, said: dict[VadKind, list[float]]) -> None:
    for name, result in _scores(scene, said):
        measured.by_sound[name][scene.condition.name] += result


def _add_monologue(measured: Measured, scene: Scene, said: dict[VadKind, list[float]]) -> None:
    for vad in VADS:
        cuts = part_ends(scene.samples, said[vad])
        within, count = measured.cuts.get(vad, (0, 0))
        within += cuts_within_words(scene.gaps, cuts)
        measured.cuts[vad] = within, count + len(cuts)


def _label_shift_ms(purpose: Purpose) -> tuple[float, float]:
    people = [voice for voice in voices(purpose) if voice.is_human]
    shifts = [sensitivity_ms(clip.samples) for voice in people for clip in voice.sentences]
    onset, end = np.percentile(shifts, 95, axis=0)
    return float(onset), float(end)
