"""The figures as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks.hearing.measure import DEFAULT, DEFAULT_VAD, HOLDS_MS, VADS, Measured, hold_name
from benchmarks.hearing.rivals import RIVALS
from benchmarks.hearing.scenes import SOUND_KINDS
from benchmarks.hearing.scoring import Score
from benchmarks.machine import machine

_TURNS = "turns  missed    cut  merged  clipped  false"
_PAUSES = "pauses cut after sentence / words"
_DELAYS = "start p50  p95    end p50  p95"


def report(measured: Measured) -> str:
    """Some 85 lines of up to 145 columns."""
    return "\n".join(
        [
            *_head(measured),
            "",
            f"At 5 dB and more; turns end after {hold_name(DEFAULT.silence_duration_ms)}:",
            *_table([*VADS], measured.audible),
            "",
            f"{DEFAULT_VAD}, by how long it waits for the turn to end:",
            *_table([hold_name(hold_ms) for hold_ms in HOLDS_MS], measured.audible),
            "",
            "Rivals' published settings, without the turn-end models that some add:",
            *_table([*RIVALS], measured.audible),
            "",
            f"{DEFAULT_VAD}, {hold_name(DEFAULT.silence_duration_ms)}, by condition:",
            *_conditions(measured),
            "",
            "Turns of one short word, of 150 to 700 ms, at 5 dB and more:",
            *_table([*VADS, *RIVALS], measured.short_answers),
            "",
            "Turns started by sounds that are no speech:",
            *_sounds(measured),
            "",
            *_long_speech(measured),
            *_cost(measured),
        ]
    )


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile; NaN of nothing."""
    if not values:
        return float("nan"), float("nan")
    median, p95 = np.percentile(values, [50, 95])
    return float(median), float(p95)


def _head(measured: Measured) -> Iterator[str]:
    onset_ms, end_ms = measured.label_shift_ms
    yield f"hearing: {measured.audio_s / 60:.0f} min in {measured.streams} streams, {machine()}"
    yield (
        f"Labels: 95% of true onsets move by less than {onset_ms:.0f} ms, and of ends by less than "
        f"{end_ms:.0f}, when the level that counts as speech moves by 6 dB."
    )
    yield "Delays in ms: start from the true onset to the decision, end from the true end to it."


def _table(names: Sequence[str], scores: Mapping[str, Score]) -> Iterator[str]:
    yield f"  {'':<36}{_TURNS}  {_PAUSES}  {_DELAYS}"
    for name in names:
        yield f"  {name:<36}{_row(scores[name])}"


def _conditions(measured: Measured) -> Iterator[str]:
    yield f"  {'':<36}{_TURNS}  {_PAUSES}  {_DELAYS}"
    for condition, score in measured.by_condition[DEFAULT_VAD].items():
        snr = "" if condition.snr_db is None else f", {condition.snr_db} dB"
        yield f"  {condition.name + snr:<36}{_row(score)}"


def _row(score: Score) -> str:
    start_p50, start_p95 = percentiles(score.start_delays_ms)
    end_p50, end_p95 = percentiles(score.end_delays_ms)
    sentences = _share(score.sentence_pauses_cut, score.sentence_pauses)
    words = _share(score.word_pauses_cut, score.word_pauses)
    return (
        f"{score.turns:5}  {score.missed:6}  {score.cut:5}  {score.merged:6}  {score.clipped:7}  "
        f"{score.false:5}  {sentences:>24} / {words:<6} "
        f"{start_p50:9.0f} {start_p95:4.0f}  {end_p50:9.0f} {end_p95:4.0f}"
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _sounds(measured: Measured) -> Iterator[str]:
    yield f"  {'':<36}" + "".join(f"{kind:>10}" for kind in SOUND_KINDS)
    for name in (*VADS, *RIVALS):
        scores = [measured.by_sound[name][kind] for kind in SOUND_KINDS]
        yield f"  {name:<36}" + "".join(f"{f'{s.false}/{s.sounds}':>10}" for s in scores)


def _long_speech(measured: Measured) -> Iterator[str]:
    yield "Cuts of speech over 30 s that fall within a sentence, and not between two:"
    for vad, (within, count) in measured.cuts.items():
        yield f"  {vad:<10}{within:3} of {count} ({_share(within, count)})"


def _cost(measured: Measured) -> Iterator[str]:
    yield "CPU, ms of one core for each second of a stream, from samples to events:"
    for name, (in_speech, in_silence) in measured.cpu_ms_per_s.items():
        yield f"  {name:<24}speech {in_speech:.2f}   quiet room {in_silence:.2f}"
