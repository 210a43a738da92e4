"""What the scenes hold, and the truth about them. The same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from audio_io.pcm import SAMPLE_RATE_HZ, Float32Array, Int16Array
from benchmarks.hearing.labels import Span
from benchmarks.hearing.pauses import pause_samples
from benchmarks.hearing.recordings import Clip, Purpose, Voice, beeps, voices
from benchmarks.hearing.sounds import (
    SOUNDS,
    Rng,
    at_level,
    at_peak,
    far_away,
    hum,
    pink,
    white,
)

T = TypeVar("T")

_SEEDS: dict[Purpose, int] = {"tune": 1, "reported": 2}
SPEECH_DBFS = -23.0
_ROOM_DBFS = -60.0
_GAP_S = (2.2, 3.5)
"""Between turns: longer than any setting waits, so that two are merged only by mistake."""
_LONG_GAP_MS = (80, 250)
"""Between the sentences of somebody who talks on and on, where nobody would take the word."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence within a turn."""

    span: Span
    after: Literal["sentence", "words"]
    """`words` are an unfinished sentence."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one person says before they let the other speak."""

    span: Span
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a scene sounds like."""

    name: str
    snr_db: int | None = None
    """Of speech over the noise; None without noise but the room's."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A stream, and what is said in it."""

    condition: Condition
    voice: str
    samples: Int16Array
    """int16 (n,), 16 kHz mono."""
    turns: tuple[Turn, ...] = ()
    sounds: tuple[Span, ...] = ()
    """Where there is something that isn't the speaker, but no noise either."""
    gaps: tuple[Span, ...] = ()
    """Of long speech: where nobody speaks."""


_NOISES = {"white": white, "pink": pink, "hum": hum}
_SNRS_DB = (20, 10, 5, 0)
CONDITIONS = (
    *(Condition(name) for name in ("clean", "digital silence", "low level", "clipping", "DC")),
    *(Condition(name, snr_db) for name in (*_NOISES, "babble") for snr_db in _SNRS_DB),
    Condition("far voice"),
)


def is_audible(condition: Condition) -> bool:
    """Whether everybody should be understood: one voice, 5 dB over the noise."""
    return condition.name != "far voice" and (condition.snr_db is None or condition.snr_db >= 5)


SOUND_KINDS = (*SOUNDS, "beep")
_FAR_DB = -20.0


def conversations(purpose: Purpose, turns: int) -> Iterator[Scene]:
    """Somebody takes `turns` turns in each condition: every person, and one synthetic voice."""
    everybody = voices(purpose)
    people = [voice for voice in everybody if voice.is_human]
    machines = [voice for voice in everybody if not voice.is_human]
    pauses = _Pauses(_SEEDS[purpose])
    for index, condition in enumerate(CONDITIONS):
        for number, voice in enumerate((*people, machines[index % len(machines)])):
            rng = np.random.default_rng([_SEEDS[purpose], 0, index, number])
            others = [v for v in everybody if v.person != voice.person and v.sentences]
            yield _conversation(condition, voice, others, turns, rng, pauses)


def short_answers(purpose: Purpose, words: int) -> Iterator[Scene]:
    """People who say one short word in each turn: all that is to be understood of conditions."""
    everybody = voices(purpose)
    for index, condition in enumerate(filter(is_audible, CONDITIONS)):
        for number, voice in enumerate(voice for voice in everybody if voice.words):
            rng = np.random.default_rng([_SEEDS[purpose], 3, index, number])
            others = [v for v in everybody if v.person != voice.person and v.sentences]
            canvas, truth = _Canvas(), []
            for _ in range(words):
                canvas.skip(rng.uniform(*_GAP_S))
                truth.append(Turn(Span(*canvas.say(_one_of(voice.words, rng))), ()))
            canvas.skip(3)
            samples = _disturbed(canvas.samples, condition, others, rng)
            yield Scene(condition, voice.name, samples, turns=tuple(truth))


def noises(purpose: Purpose, count: int) -> Iterator[Scene]:
    """Streams without a word: `count` sounds of each kind, 2 to 4 s apart."""
    recorded = beeps()
    for index, kind in enumerate(SOUND_KINDS):
        rng = np.random.default_rng([_SEEDS[purpose], 1, index])
        canvas, spans = _Canvas(), []
        for _ in range(count):
            canvas.skip(rng.uniform(2, 4))
            sound = recorded[rng.integers(len(recorded))] if kind == "beep" else SOUNDS[kind](rng)
            spans.append(canvas.add(at_peak(sound, rng.uniform(-20, -3))))
        canvas.skip(3)
        mixed = canvas.samples + at_level(white(len(canvas.samples), rng), _ROOM_DBFS)
        yield Scene(Condition(kind), "", _int16(mixed), sounds=tuple(spans))


def monologues(purpose: Purpose, duration_s: float) -> Iterator[Scene]:
    """Every person, and a synthetic voice, talking on without a pause that would end a turn."""
    everybody = [voice for voice in voices(purpose) if voice.sentences]
    chosen = [*(voice for voice in everybody if voice.is_human), everybody[-1]]
    conditions = (Condition("clean"), Condition("pink", 10), Condition("white", 10))
    for index, condition in enumerate(conditions):
        for number, voice in enumerate(chosen):
            rng = np.random.default_rng([_SEEDS[purpose], 2, index, number])
            canvas, gaps = _Canvas(), []
            canvas.skip(3)
            start, end = canvas.say(_one_of(voice.sentences, rng))
            turn_start = start
            while end - turn_start < duration_s * SAMPLE_RATE_HZ:
                gap = int(rng.uniform(*_LONG_GAP_MS) * SAMPLE_RATE_HZ / 1000)
                start, end_next = canvas.say(_one_of(voice.sentences, rng), after=end + gap)
                gaps.append(Span(end, start))
                end = end_next
            canvas.skip(3)
            samples = _disturbed(canvas.samples, condition, [], rng)
            turn = Turn(Span(turn_start, end), ())
            yield Scene(condition, voice.name, samples, turns=(turn,), gaps=tuple(gaps))


class _Pauses:
    """Deals out the pauses of a set, one after the other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dealt = 0

    def next_samples(self) -> int:
        self._dealt += 1
        return pause_samples(self._seed, self._dealt)


class _Canvas:
    """A stream that grows; clips are laid over it by where their speech begins."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, Float32Array]] = []
        self.end = 0

    def skip(self, duration_s: float) -> None:
        self.end += int(duration_s * SAMPLE_RATE_HZ)

    def add(self, samples: Float32Array) -> Span:
        self._parts.append((self.end, samples))
        span = Span(self.end, self.end + len(samples))
        self.end = span.end
        return span

    def say(self, clip: Clip, after: int | None = None) -> tuple[int, int]:
        """Speech from position `after`, or from the end; returns where it begins and ends."""
        start = self.end if after is None else after
        self._parts.append((start - clip.speech.start, clip.samples))
        end = start + clip.speech.end - clip.speech.start
        self.end = end
        return start, end

    @property
    def samples(self) -> Float32Array:
        mixed = np.zeros(self.end, dtype=np.float32)
        for start, part in self._parts:
            mixed[start : start + len(part)] += part[: self.end - start]
        return mixed


def _conversation(
    condition: Condition,
    voice: Voice,
    others: list[Voice],
    turns: int,
    rng: Rng,
    pauses: _Pauses,
) -> Scene:
    canvas, truth, sounds = _Canvas(), [], []
    for _ in range(turns):
        gap_s = rng.uniform(*_GAP_S)
        if condition.name == "far voice":
            canvas.skip(gap_s)
            other = _one_of(_one_of(others, rng).sentences, rng)
            distant = at_level(far_away(other.samples, rng), SPEECH_DBFS + _FAR_DB)
            sounds.append(canvas.add(distant))
        canvas.skip(gap_s)
        truth.append(_take_turn(canvas, voice, rng, pauses))
    canvas.skip(3)
    samples = _disturbed(canvas.samples, condition, others, rng)
    return Scene(condition, voice.name, samples, turns=tuple(truth), sounds=tuple(sounds))


def _take_turn(canvas: _Canvas, voice: Voice, rng: Rng, pauses: _Pauses) -> Turn:
    """One sentence or two, each whole or with a pause in its midst."""
    clips: list[tuple[Clip, Literal["sentence", "words"]]] = []
    for _ in range(rng.integers(1, 3)):
        if voice.halves and (not voice.sentences or rng.random() < 0.5):
            first, second = _one_of(voice.halves, rng)
            clips += [(first, "words"), (second, "sentence")]
        else:
            clips.append((_one_of(voice.sentences, rng), "sentence"))
    turn_start, end = canvas.say(clips[0][0])
    taken = []
    for (_, after), (clip, _) in pairwise(clips):
        start, next_end = canvas.say(clip, after=end + pauses.next_samples())
        taken.append(Pause(Span(end, start), after))
        end = next_end
    return Turn(Span(turn_start, end), tuple(taken))


def _disturbed(
    speech: Float32Array, condition: Condition, others: list[Voice], rng: Rng
) -> Int16Array:
    """The speech as the microphone would hear it."""
    room = at_level(white(len(speech), rng), _ROOM_DBFS)
    match condition:
        case Condition("digital silence"):
            return _int16(speech)
        case Condition("low level"):
            return _int16((speech + room) * np.float32(10 ** (-25 / 20)))
        case Condition("clipping"):
            return _int16((speech + room) * np.float32(10 ** (20 / 20)))
        case Condition("DC"):
            return _int16(speech + room + np.float32(0.05))
        case Condition("babble", int(snr_db)):
            noise = _babble(len(speech), others, rng)
        case Condition(name, int(snr_db)):
            noise = _NOISES[name](len(speech), rng)
        case _:
            return _int16(speech + room)
    return _int16(speech + at_level(noise, SPEECH_DBFS - snr_db))


def _babble(count: int, others: list[Voice], rng: Rng) -> Float32Array:
    """Twelve people at once across the room, who never stop, none of whom is the speaker."""
    mixed = np.zeros(count, dtype=np.float32)
    for _ in range(12):
        at = 0
        while at < count:
            clip = _one_of(_one_of(others, rng).sentences, rng).samples[: count - at]
            mixed[at : at + len(clip)] += clip
            at += len(clip)
    return far_away(mixed, rng)[:count]


def _one_of(choices: Sequence[T], rng: Rng) -> T:
    return choices[int(rng.integers(len(choices)))]


def _int16(samples: Float32Array) -> Int16Array:
    return np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)
