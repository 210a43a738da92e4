"""What a segmenter tells: when somebody speaks, and the samples that are handed over for it.

Positions count 16 kHz samples since the stream began.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audio_io.pcm import SAMPLES_PER_MS, Int16Array


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A span of the input that is handed over. Equal where place and samples are equal."""

    samples: Int16Array = field(repr=False)
    """int16 (n,), 16 kHz mono, 0.1 to 30.0 s, read-only."""
    start_sample: int
    """Position of the first sample."""

    @property
    def end_sample(self) -> int:
        """Position after the last sample."""
        return self.start_sample + len(self.samples)

    def newest(self, duration_ms: int) -> Utterance:
        """Its last so many ms, or all of it where that is less."""
        start = max(0, len(self.samples) - duration_ms * SAMPLES_PER_MS)
        return Utterance(self.samples[start:], self.start_sample + start)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Utterance)
            and self.start_sample == other.start_sample
            and np.array_equal(self.samples, other.samples)
        )

    def __hash__(self) -> int:
        return hash((self.start_sample, len(self.samples)))


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody speaks: a turn is open."""

    start_sample: int
    """Where the turn's audio begins, before the speech itself."""


@dataclass(frozen=True, slots=True)
class SpeechConfirmed:
    """The open turn's speech, its pauses left out, has lasted for the detection's `confirm_ms`.

    Comes at most once in a turn, and never where `confirm_ms` is None.
    """

    decided_at_sample: int
    """How much had been heard when this was decided."""


@dataclass(frozen=True, slots=True)
class PartEnded:
    """Long speech has reached the length of a part; the turn goes on behind it."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class PauseBegan:
    """The turn may be over. Followed by SpeechResumed or by SpeechStopped."""

    utterance: Utterance
    """The turn's last part, if this turns out to be its end."""
    speech_end_sample: int


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The turn wasn't over: what was made of the PauseBegan before is void."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The turn is over."""

    utterance: Utterance | None
    """Its last part; None if the longest time for a turn ran out just after a PartEnded."""
    speech_end_sample: int
    decided_at_sample: int
    """How much had been heard when this was decided."""


@dataclass(frozen=True, slots=True)
class AudioDropped:
    """Without turn detection, more was heard since the last `flush` or `clear` than is taken at
    once (`max_turn_s`). What comes until the next is dropped."""

    from_sample: int


SpeechEvent = (
    SpeechStarted
    | SpeechConfirmed
    | PartEnded
    | PauseBegan
    | SpeechResumed
    | SpeechStopped
    | AudioDropped
)
