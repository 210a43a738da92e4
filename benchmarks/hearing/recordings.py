"""Voices: people's, from Debian packages, and espeak-ng's. None of them is kept here.

The tune set hears June, in French, and the reported set Allison, in English and Spanish, and the
woman of alsa-utils. espeak-ng speaks in both, other sentences in other timbres. The signal tones
are the same in both.
"""

from __future__ import annotations

import io
import subprocess
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np
import soxr

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Float32Array
from benchmarks.hearing.labels import (
    CELL_SAMPLES,
    Span,
    cell_levels_db,
    sensitivity_ms,
    speech_spans,
)
from benchmarks.hearing.sentences import SENTENCES

Purpose = Literal["tune", "reported"]

PACKAGES = (
    "alsa-utils asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722 "
    "asterisk-core-sounds-fr-g722 espeak-ng"
)
_PROMPTS = Path("/usr/share/asterisk/sounds")
_PHRASES = Path("/usr/share/sounds/alsa")

_NO_SPEECH = {"ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys"}
BEEPS = ("ascending-2tone", "beep", "beeperr", "descending-2tone")

_LEVEL_DBFS = -23.0
_MARGIN_SAMPLES = 60 * SAMPLES_PER_MS
_EDGE_SAMPLES = 2 * CELL_SAMPLES
_SENTENCE_S = 0.7, 7.0
_WORD_S = 0.15, 0.7
_WORD_FOLDERS = ("digits", "letters")
_VAGUEST_LABEL_MS = 30
"""A recording whose noise hides where its speech begins or ends has no known truth."""
_SHORTEST_HALF_SAMPLES = 300 * SAMPLES_PER_MS
_FADE_SAMPLES = 5 * SAMPLES_PER_MS


class RecordingsMissing(Exception):
    """A package with recordings isn't installed; the message says which command brings it."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Speech without a gap, and the quiet just around it."""

    samples: Float32Array
    """float32 (n,), 16 kHz mono; its speech has -23 dBFS RMS."""
    speech: Span


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """Somebody, and what they said."""

    name: str
    is_human: bool
    sentences: tuple[Clip, ...]
    """What stands for itself."""
    halves: tuple[tuple[Clip, Clip], ...]
    """Sentences taken apart where they can be."""
    words: tuple[Clip, ...] = ()
    """Digits and letters: answers of one short word."""

    @property
    def person(self) -> str:
        """Whose voice it is: one person speaks English and Spanish."""
        return self.name.split()[0] if self.is_human else self.name


@cache
def voices(purpose: Purpose) -> tuple[Voice, ...]:
    """Raises RecordingsMissing."""
    match purpose:
        case "tune":
            humans = [_prompts("June fr", "fr_CA_f_June")]
        case "reported":
            humans = [
                _prompts("Allison en", "en_US_f_Allison"),
                _prompts("Allison es", "es_MX_f_Allison"),
                _phrases("alsa en"),
            ]
    return (*humans, *(_synthetic(language, purpose) for language in SENTENCES))


def beeps() -> list[Float32Array]:
    """The recorded signal tones, float32 (n,) each."""
    return [_decode(_PROMPTS / "en_US_f_Allison" / f"{name}.g722") for name in BEEPS]


def taken_apart(clip: Clip) -> tuple[Clip, Clip] | None:
    """Both sides of the quietest place in the middle of it; None if it is too short, or loud there.

    That is between two words or in the closure of a consonant. It carries no hesitation in its
    voice, as a person's pause for thought would.
    """
    start, end = clip.speech.start, clip.speech.end
    third = (end - start) // 3
    if third < _SHORTEST_HALF_SAMPLES:
        return None
    levels_db = cell_levels_db(clip.samples)
    first, last = (start + third) // CELL_SAMPLES, (end - third) // CELL_SAMPLES
    quietest = first + int(np.argmin(levels_db[first:last]))
    if levels_db[quietest] > np.percentile(levels_db, 95) - 25:
        return None
    at = quietest * CELL_SAMPLES + CELL_SAMPLES // 2
    ramp = np.linspace(0, 1, _FADE_SAMPLES, dtype=np.float32)
    before, after = clip.samples[:at].copy(), clip.samples[at:].copy()
    before[-_FADE_SAMPLES:] *= ramp[::-1]
    after[:_FADE_SAMPLES] *= ramp
    left, right = speech_spans(before), speech_spans(after)
    if not left or not right:
        return None
    return (
        Clip(before, Span(left[0].start, left[-1].end)),
        Clip(after, Span(right[0].start, right[-1].end)),
    )


def _voice(
    name: str, is_human: bool, recordings: list[Float32Array], words: list[Float32Array]
) -> Voice:
    clips = _clips(recordings, _SENTENCE_S)
    halves = [pair for clip in clips if (pair := taken_apart(clip)) is not None]
    return Voice(name, is_human, clips, tuple(halves), _clips(words, _WORD_S))


def _clips(recordings: list[Float32Array], duration_s: tuple[float, float]) -> tuple[Clip, ...]:
    """Those that are one stretch of speech, of a usable length and with edges that are sure."""
    clips = []
    for samples in recordings:
        match speech_spans(samples):
            case [Span() as speech] if _is_usable(samples, speech, duration_s):
                clips.append(_cut_out(samples, speech))
    return tuple(clips)


def _is_usable(samples: Float32Array, speech: Span, duration_s: tuple[float, float]) -> bool:
    shortest_s, longest_s = duration_s
    return (
        shortest_s <= (speech.end - speech.start) / SAMPLE_RATE_HZ <= longest_s
        and speech.start >= _EDGE_SAMPLES
        and len(samples) - speech.end >= _EDGE_SAMPLES
        and max(sensitivity_ms(samples)) <= _VAGUEST_LABEL_MS
    )


def _cut_out(samples: Float32Array, speech: Span) -> Clip:
    spoken = samples[speech.start : speech.end].astype(np.float64)
    gain = 10 ** (_LEVEL_DBFS / 20) / np.sqrt(np.mean(spoken**2))
    start = max(0, speech.start - _MARGIN_SAMPLES)
    part = samples[start : speech.end + _MARGIN_SAMPLES] * np.float32(gain)
    ramp = np.linspace(0, 1, min(_FADE_SAMPLES, speech.start - start), dtype=np.float32)
    part[: len(ramp)] *= ramp
    part[-len(ramp) :] *= ramp[::-1]
    return Clip(part, speech.moved(-start))


def _prompts(name: str, folder: str) -> Voice:
    paths = _found(sorted((_PROMPTS / folder).glob("*.g722")))
    word_paths = [
        path
        for words in _WORD_FOLDERS
        for path in _found(sorted((_PROMPTS / folder / words).glob("*.g722")))
    ]
    sentences = [_decode(path) for path in paths if path.stem not in _NO_SPEECH]
    return _voice(name, True, sentences, [*map(_decode, word_paths)])


def _phrases(name: str) -> Voice:
    """`Front … Center`: the gap of 270 to 350 ms makes them no sentence, but two halves."""
    halves = []
    for path in _found(sorted(_PHRASES.glob("*_*.wav"))):
        samples = _decode(path)
        if len(spans := speech_spans(samples)) == 2:
            halves.append((_cut_out(samples, spans[0]), _cut_out(samples, spans[1])))
    return Voice(name, True, (), tuple(halves))


def _synthetic(language: str, purpose: Purpose) -> Voice:
    """One of espeak-ng's timbres; the two purposes share none."""
    timbre = ["+f2", "+m1"] if purpose == "tune" else ["+m3", "+f4"]
    sentences = SENTENCES[language][purpose == "reported"]
    spoken = [
        _spoken(f"{language}{timbre[index % 2]}", sentence)
        for index, sentence in enumerate(sentences)
    ]
    return _voice(f"espeak {language}", False, spoken, [])


def _spoken(voice: str, sentence: str) -> Float32Array:
    try:
        wav = subprocess.run(
            ["espeak-ng", "-v", voice, "-s", "160", "--stdout", sentence],
            check=True,
            capture_output=True,
        ).stdout
    except FileNotFoundError as error:
        raise RecordingsMissing(f"Install them: apt-get install {PACKAGES}") from error
    # Its header gives no length, so the wave module can't be asked for the frames.
    with wave.open(io.BytesIO(wav)) as file:
        rate_hz = file.getframerate()
    samples = np.frombuffer(wav[44:], dtype="<i2").astype(np.float32) / 32_768
    quiet = np.zeros(rate_hz // 10, dtype=np.float32)
    return _resampled(np.concatenate([quiet, samples, quiet]), rate_hz)


def _decode(path: Path) -> Float32Array:
    with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
        rate_hz = container.streams.audio[0].rate
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return _resampled(np.concatenate(frames).astype(np.float32) / np.float32(32_768), rate_hz)


def _resampled(samples: Float32Array, rate_hz: int) -> Float32Array:
    return np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32)


def _found(paths: list[Path]) -> list[Path]:
    if not paths:
        raise RecordingsMissing(f"Install them: apt-get install {PACKAGES}")
    return paths
