"""The hearing benchmark's scenes: the same bytes twice, and a truth that holds."""

import hashlib
from itertools import islice

import numpy as np
import pytest

from benchmarks.hearing.pauses import LONGEST_MS, SHORTEST_MS, pause_samples
from benchmarks.hearing.recordings import RecordingsMissing, voices
from benchmarks.hearing.scenes import conversations, monologues, noises

MS = 16


@pytest.fixture(scope="module", autouse=True)
def recordings():
    try:
        voices("tune")
    except RecordingsMissing as missing:
        pytest.skip(str(missing))


def digests(scenes):
    return [hashlib.sha256(scene.samples.tobytes()).hexdigest() for scene in scenes]


def test_the_pauses_follow_their_law():
    pauses_ms = np.array([pause_samples(7, index) for index in range(4_000)]) / MS
    assert pauses_ms.min() >= SHORTEST_MS and pauses_ms.max() <= LONGEST_MS
    counts, _ = np.histogram(pauses_ms, bins=6, range=(SHORTEST_MS, LONGEST_MS))
    assert counts.min() > 550
    assert abs(np.corrcoef(pauses_ms[1:], pauses_ms[:-1])[0, 1]) < 0.05


@pytest.mark.slow
def test_the_same_bytes_twice_and_others_for_the_other_set():
    first, second = (digests(islice(conversations("tune", 1), 2)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 2
    assert not set(first) & set(digests(islice(conversations("reported", 1), 2)))
    assert digests(noises("tune", 2)) == digests(noises("tune", 2))


def test_no_voice_of_a_person_is_in_both_sets():
    tune, reported = ({v.name for v in voices(p) if v.is_human} for p in ("tune", "reported"))
    assert tune and reported
    assert not tune & reported


def test_pauses_are_where_the_truth_says():
    for scene in islice(conversations("tune", 3), 2):  # clean
        level = np.abs(scene.samples.astype(int))
        spoken = np.mean([level[t.span.start : t.span.end].mean() for t in scene.turns])
        for turn in scene.turns:
            ends = [turn.span.start]
            for pause in turn.pauses:
                length = pause.span.end - pause.span.start
                assert SHORTEST_MS * MS <= length <= LONGEST_MS * MS
                assert pause.span.start > ends[-1]
                middle = slice(pause.span.start + length // 4, pause.span.end - length // 4)
                assert level[middle].mean() < spoken / 10
                ends.append(pause.span.end)
            assert turn.span.end > ends[-1]


def test_whoever_talks_on_and_on_leaves_only_short_gaps():
    scene = next(monologues("tune", 20))
    (turn,) = scene.turns
    lengths = [gap.end - gap.start for gap in scene.gaps]
    assert min(lengths) >= 80 * MS and max(lengths) <= 250 * MS
    assert turn.span.end - turn.span.start >= 20 * 16_000
