"""When somebody begins to speak, pauses, goes on, and is done. Pure.

It is told how likely each window of 32 ms holds speech, and answers with transitions whose
positions count samples of the stream.

                      6 of the last 8 windows voiced: Start
        ┌──────┐ ────────────────────────────────────────────> ┌────────┐
        │ IDLE │                                               │ SPEECH │
        └──────┘ <──────────────────────────────────────────── └────────┘
           ^             the turn's longest time: Stop            │  ^
           │                                                      │  │ 2 voiced windows
           │                              silent for pause_ms: or │  │ in a row: Resume
           │                       silence_duration_ms if less    │  │
           │                                                Pause v  │
           │       silent for silence_duration_ms: Stop        ┌───────┐
           └────────────────────────────────────────────────── │ PAUSE │
                                                               └───────┘
Rules:
- A window is voiced at a probability of `threshold` or more. In SPEECH it takes less than 0.15
  below that to be silent; in PAUSE, whatever isn't voiced is silent.
- Silence is counted from the end of the last window of speech. A lone voiced window in a pause is
  a click: it neither moves that end nor ends the turn, but the turn waits for the window after it.
- A Stop is preceded by its Pause, in the same call if need be, except at the longest time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated_dataclass

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from audio_io.silero import WINDOW_SAMPLES

MAX_TURN_S = 300
"""Longest turn: whoever speaks for longer is answered, or a noise would never end."""

# 192 ms of voice in 256. The start is decided after 214 ms (median; audio from before is kept), and
# none of 150 coughs is one; with 3 of 4 it is after 119 ms, and 6% of the coughs are.
_START_VOICED, _START_WINDOWS = 6, 8
_RESUME_WINDOWS = 2

LEAST_THRESHOLD, MOST_THRESHOLD = 0.1, 0.95
"""Outside of these, everything is speech, or nothing is."""
LEAST_SILENCE_MS = 200
"""Shorter gaps are within words."""

_HYSTERESIS = 0.15
_LOWEST_SILENCE = 0.05
"""Silence must stay possible with a low threshold; Silero gives a quiet room 0.00 to 0.03."""


@validated_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class TurnDetection:
    """How turns are told apart. A value out of range raises pydantic's ValidationError."""

    threshold: Annotated[
        float,
        Field(
            ge=LEAST_THRESHOLD,
            le=MOST_THRESHOLD,
            description="Probability from which a window counts as speech.",
        ),
    ] = 0.5
    prefix_padding_ms: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Audio kept from before speech was noticed; 450 ms are kept in any case.",
        ),
    ] = 450
    silence_duration_ms: Annotated[
        int,
        Field(
            ge=LEAST_SILENCE_MS,
            le=10_000,
            description="Silence that ends a turn; at 500 ms, 38% of pauses of 0.2 to 0.8 s would.",
        ),
    ] = 700
    pause_ms: Annotated[
        int,
        Field(
            ge=LEAST_SILENCE_MS,
            le=2_000,
            description="Silence after which the reply is begun on trial.",
        ),
    ] = 250
    confirm_ms: Annotated[
        int | None,
        Field(ge=0, le=5_000, description="Speech after which a turn is told to be no cough."),
    ] = None


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody speaks."""

    speech_start_sample: int
    """Where the first of the voiced windows begins."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody has spoken for a moment; perhaps the turn is over."""

    speech_end_sample: int
    """Where the last window of speech ends."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The turn goes on after its last Pause."""

    at_sample: int
    """Where the first of the voiced windows begins."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The turn is over."""

    speech_end_sample: int
    """As in the Pause before it, if there was one."""


Transition = Start | Pause | Resume | Stop


class _State(Enum):
    IDLE = auto()
    SPEECH = auto()
    PAUSE = auto()


class Endpointer:
    """The state machine above, for windows that follow each other without a gap."""

    def __init__(
        self,
        detection: TurnDetection,
        position_samples: int = 0,
        *,
        max_turn_s: float = MAX_TURN_S,
    ) -> None:
        self.detection = detection
        """May be replaced between windows; an open turn stays open."""
        self.position_samples = position_samples
        """Where the last window ended and the next begins."""
        self.speech_end_sample = position_samples
        """Where the last window of speech ended; has a meaning only while a turn is open."""
        self._speech_start_sample = position_samples
        self._max_turn_samples = round(max_turn_s * SAMPLE_RATE_HZ)
        self._state = _State.IDLE
        self._recent: deque[bool] = deque(maxlen=_START_WINDOWS)
        self._voiced_in_a_row = 0

    @property
    def speaking(self) -> bool:
        """Whether a turn is open: after its Start and before its Stop."""
        return self._state is not _State.IDLE

    @property
    def pausing(self) -> bool:
        """Whether the turn has paused, and nothing since hints at its going on."""
        return self._state is _State.PAUSE and not self._voiced_in_a_row

    def push(self, probability: float) -> list[Transition]:
        """Take the next window's probability of speech."""
        self.position_samples += WINDOW_SAMPLES
        voiced = probability >= self.detection.threshold
        self._voiced_in_a_row = self._voiced_in_a_row + 1 if voiced else 0
        match self._state:
            case _State.IDLE:
                return self._started(voiced)
            case _State.SPEECH:
                transitions = self._paused(probability)
            case _State.PAUSE:
                transitions = self._resumed()
        if self._over(voiced):
            self._state = _State.IDLE
            self._recent.clear()
            transitions.append(Stop(self.speech_end_sample))
        return transitions

    def _started(self, voiced: bool) -> list[Transition]:
        self._recent.append(voiced)
        if sum(self._recent) < _START_VOICED:
            return []
        windows = len(self._recent) - self._recent.index(True)
        self._state = _State.SPEECH
        self._speech_start_sample = self.position_samples - windows * WINDOW_SAMPLES
        self.speech_end_sample = self.position_samples
        return [Start(self._speech_start_sample)]

    def _paused(self, probability: float) -> list[Transition]:
        if probability >= max(self.detection.threshold - _HYSTERESIS, _LOWEST_SILENCE):
            self.speech_end_sample = self.position_samples
        elif self._silent_ms >= min(self.detection.pause_ms, self.detection.silence_duration_ms):
            self._state = _State.PAUSE
            return [Pause(self.speech_end_sample)]
        return []

    def _resumed(self) -> list[Transition]:
        if self._voiced_in_a_row < _RESUME_WINDOWS:
            return []
        self._state = _State.SPEECH
        self.speech_end_sample = self.position_samples
        return [Resume(self.position_samples - _RESUME_WINDOWS * WINDOW_SAMPLES)]

    def _over(self, voiced: bool) -> bool:
        if self.position_samples - self._speech_start_sample >= self._max_turn_samples:
            return True
        return (
            self._state is _State.PAUSE
            and not voiced
            and self._silent_ms >= self.detection.silence_duration_ms
        )

    @property
    def _silent_ms(self) -> int:
        return (self.position_samples - self.speech_end_sample) // SAMPLES_PER_MS
