"""Where speech begins and ends in a clean recording. Pure.

By energy with hysteresis, in cells of 10 ms: speech is sure 25 dB below the recording's loud cells
(their 95th percentile), and reaches from there as far as the level stays above 38 dB below them,
which takes in breathy ends and unvoiced onsets. `sensitivity_ms` says how exact that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_io.pcm import SAMPLES_PER_MS, Float32Array

CELL_SAMPLES = 10 * SAMPLES_PER_MS
MIN_GAP_MS = 150
"""A shorter silence is part of the speech: the closure of a consonant, or between two words."""

_SURE_DB = -25.0
_EDGE_DB = -38.0


@dataclass(frozen=True, slots=True)
class Span:
    """Samples from `start` up to `end`."""

    start: int
    end: int

    def moved(self, samples: int) -> Span:
        return Span(self.start + samples, self.end + samples)

    def overlap(self, other: Span) -> int:
        """How many samples both hold; negative for the distance between them."""
        return min(self.end, other.end) - max(self.start, other.start)


def speech_spans(
    samples: Float32Array, *, edge_db: float = _EDGE_DB, min_gap_ms: int = MIN_GAP_MS
) -> list[Span]:
    """The stretches of speech in `samples`, float32 (n,), 16 kHz mono, without noise."""
    levels_db = cell_levels_db(samples)
    loud_db = np.percentile(levels_db, 95)
    edges = np.diff(np.concatenate([[False], levels_db > loud_db + edge_db, [False]]).astype(int))
    runs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    spans: list[Span] = []
    for first, last in runs:
        if levels_db[first:last].max() < loud_db + _SURE_DB:
            continue
        span = Span(int(first) * CELL_SAMPLES, int(last) * CELL_SAMPLES)
        if spans and span.start - spans[-1].end < min_gap_ms * SAMPLES_PER_MS:
            span = Span(spans.pop().start, span.end)
        spans.append(span)
    return spans


def sensitivity_ms(samples: Float32Array) -> tuple[float, float]:
    """How far onset and end move when the edge is taken 6 dB lower or higher, in ms."""
    low = speech_spans(samples, edge_db=_EDGE_DB - 6)
    high = speech_spans(samples, edge_db=_EDGE_DB + 6)
    onset = high[0].start - low[0].start
    end = low[-1].end - high[-1].end
    return onset / 2 / SAMPLES_PER_MS, end / 2 / SAMPLES_PER_MS


def cell_levels_db(samples: Float32Array) -> NDArray[np.float64]:
    """The RMS level of each whole cell of 10 ms, -100 dB at least."""
    count = len(samples) // CELL_SAMPLES
    cells = samples[: count * CELL_SAMPLES].reshape(count, CELL_SAMPLES).astype(np.float64)
    return np.asarray(10 * np.log10(np.mean(cells**2, axis=1) + 1e-10))
