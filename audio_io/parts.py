"""A long recording in parts that models take, each with its start. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from audio_io.cutting import quietest_sample
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from audio_io.segmenter import MIN_UTTERANCE_MS
from audio_io.silero import WINDOW_SAMPLES

_SEARCHED_WINDOWS = 5 * SAMPLE_RATE_HZ // WINDOW_SAMPLES
"""The end of a part in which the quietest place is looked for: 5 s."""


def in_parts(samples: Int16Array, max_s: float) -> Iterator[tuple[float, Int16Array]]:
    """Each part's start in s, and its samples; int16 (n,), 16 kHz mono, of `max_s` at most.

    `max_s`: 10 at least. The cuts are at quiet places, and leave no part shorter than an utterance
    may be. The parts are views on `samples`.
    """
    longest = int(max_s * SAMPLE_RATE_HZ)
    start = 0
    while len(samples) - start > longest:
        end = min(start + longest, len(samples) - MIN_UTTERANCE_MS * SAMPLES_PER_MS)
        searched = samples[end - _SEARCHED_WINDOWS * WINDOW_SAMPLES : end]
        # Where there is speech isn't known: the energy decides.
        cut = end - len(searched) + quietest_sample(searched, [0.0] * _SEARCHED_WINDOWS)
        yield start / SAMPLE_RATE_HZ, samples[start:cut]
        start = cut
    yield start / SAMPLE_RATE_HZ, samples[start:]
