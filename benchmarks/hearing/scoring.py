"""What was heard against what was said. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from audio_io.pcm import SAMPLES_PER_MS
from benchmarks.hearing.labels import Span
from benchmarks.hearing.scenes import Pause, Scene, Turn

_CLIPPED_SAMPLES = 20 * SAMPLES_PER_MS
_LATE_SAMPLES = 200 * SAMPLES_PER_MS
"""The start of a short word may be decided only after its end."""


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """What a detector took for a turn."""

    audio_start_sample: int
    """Where the audio that it hands over begins."""
    start_decided_sample: int
    """How much it had heard when it said that somebody speaks."""
    speech_end_sample: int
    """Where it holds that speech ended."""
    decided_sample: int
    """How much it had heard when it said that the turn is over."""

    @property
    def span(self) -> Span:
        return Span(self.start_decided_sample, self.speech_end_sample)


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over scenes; adds up with `+`."""

    turns: int = 0
    missed: int = 0
    """Turns in which nothing was heard."""
    cut: int = 0
    """Turns that were taken for several."""
    merged: int = 0
    """Turns that were taken for part of the one before."""
    clipped: int = 0
    """Turns that lost more than 20 ms of their onset."""
    false: int = 0
    """Heard turns that began when nobody spoke."""
    sounds: int = 0
    sentence_pauses: int = 0
    sentence_pauses_cut: int = 0
    word_pauses: int = 0
    word_pauses_cut: int = 0
    start_delays_ms: tuple[float, ...] = ()
    """From the onset of speech to its being noticed."""
    end_delays_ms: tuple[float, ...] = ()
    """From the true end of a turn, heard as one, to the decision."""

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Score)))

    @property
    def pauses(self) -> int:
        return self.sentence_pauses + self.word_pauses

    @property
    def pauses_cut(self) -> int:
        return self.sentence_pauses_cut + self.word_pauses_cut


def score(scene: Scene, heard: Sequence[HeardTurn]) -> Score:
    """`heard` in order, over the whole scene."""
    meetings = [[h for h in heard if _meet(turn, h)] for turn in scene.turns]
    total = Score(
        turns=len(scene.turns),
        false=sum(not any(_began_in(turn, h) for turn in scene.turns) for h in heard),
        sounds=len(scene.sounds),
    )
    before: HeardTurn | None = None
    for turn, met in zip(scene.turns, meetings, strict=True):
        total += _score_of_turn(turn, met, merged=bool(met) and met[0] is before)
        before = met[-1] if met else None
    return total


def cuts_within_words(gaps: Sequence[Span], cuts: Sequence[int]) -> int:
    """How many of the positions `cuts` lie in no gap."""
    return sum(not any(gap.start <= cut < gap.end for gap in gaps) for cut in cuts)


def _score_of_turn(turn: Turn, met: Sequence[HeardTurn], *, merged: bool) -> Score:
    if not met:
        return Score(missed=1) + _score_of_pauses(turn, met)
    first, last = met[0], met[-1]
    is_one = len(met) == 1 and not merged
    start_delay_ms = (first.start_decided_sample - turn.span.start) / SAMPLES_PER_MS
    end_delay_ms = (last.decided_sample - turn.span.end) / SAMPLES_PER_MS
    return Score(
        cut=int(len(met) > 1),
        merged=int(merged),
        clipped=int(first.audio_start_sample > turn.span.start + _CLIPPED_SAMPLES),
        # Whoever was heard before they spoke is counted among the false.
        start_delays_ms=(start_delay_ms,) if start_delay_ms > 0 else (),
        # A turn that ends before the true end has lost words, but wasn't waited for.
        end_delays_ms=(end_delay_ms,) if is_one and end_delay_ms > 0 else (),
    ) + _score_of_pauses(turn, met)


def _score_of_pauses(turn: Turn, met: Sequence[HeardTurn]) -> Score:
    after = [pause.after for pause in turn.pauses]
    cut_after = [pause.after for pause in turn.pauses if _is_cut(pause, met)]
    return Score(
        sentence_pauses=after.count("sentence"),
        sentence_pauses_cut=cut_after.count("sentence"),
        word_pauses=after.count("words"),
        word_pauses_cut=cut_after.count("words"),
    )


def _is_cut(pause: Pause, met: Sequence[HeardTurn]) -> bool:
    """Whether one of them ended in the pause, and went by what came before."""
    late = pause.span.end + _LATE_SAMPLES
    return any(pause.span.start < h.decided_sample <= late for h in met)


def _meet(turn: Turn, heard: HeardTurn) -> bool:
    return _audible(turn).overlap(heard.span) > 0


def _began_in(turn: Turn, heard: HeardTurn) -> bool:
    return _audible(turn).start <= heard.start_decided_sample < _audible(turn).end


def _audible(turn: Turn) -> Span:
    return Span(turn.span.start, turn.span.end + _LATE_SAMPLES)
