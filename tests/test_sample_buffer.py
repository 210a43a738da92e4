"""A buffer holds exactly what a plain list would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_io.sample_buffer import SampleBuffer


@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 200_000)), max_size=30))
def test_views_are_what_was_appended(steps):
    stream = np.arange(30 * 60_000, dtype=np.int64).astype(np.int16)
    buffer = SampleBuffer()
    forgotten = 0
    for count, kept in steps:
        buffer.append(stream[buffer.end : buffer.end + count])
        forgotten = max(forgotten, buffer.end - kept)
        buffer.forget_before(forgotten)
        assert buffer.start == max(forgotten, 0)
        view = buffer.view(buffer.start, buffer.end)
        np.testing.assert_array_equal(view, stream[buffer.start : buffer.end])


def test_memory_stays_at_twice_of_what_is_held():
    buffer = SampleBuffer()
    chunk = np.ones(320, dtype=np.int16)
    for _ in range(10_000):
        buffer.append(chunk)
        buffer.forget_before(buffer.end - 100_000)
    assert len(buffer._data) <= 2 * (100_000 + len(chunk))


def test_what_is_not_held_cannot_be_viewed():
    buffer = SampleBuffer()
    buffer.append(np.arange(100, dtype=np.int16))
    buffer.forget_before(50)
    for start, end in [(49, 60), (60, 101), (70, 60)]:
        with pytest.raises(IndexError, match="isn't within 50 to 100"):
            buffer.view(start, end)
    assert buffer.view(60, 60).tolist() == []


def test_a_skip_leaves_a_gap_that_cannot_be_viewed():
    buffer = SampleBuffer()
    buffer.append(np.arange(100, dtype=np.int16))
    buffer.skip_to(1_000)
    buffer.append(np.arange(3, dtype=np.int16))
    assert (buffer.start, buffer.end) == (1_000, 1_003)
    assert buffer.view(1_000, 1_003).tolist() == [0, 1, 2]
