"""Packets in any order come out in order and at once; holes in time are found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from audio_io.rtp import ReorderBuffer, Timeline

RATE = 48_000
FRAME = RATE // 50


def fed(numbers: list[int]) -> list[int | None]:
    """What each of these sequence numbers gives back."""
    buffer = ReorderBuffer[int]()
    return [buffer.add(number, number) for number in numbers]


@given(st.integers(0, 65_535), st.integers(1, 300))
def test_packets_in_order_are_given_back_at_once(first: int, count: int) -> None:
    numbers = [(first + i) % 65_536 for i in range(count)]
    assert fed(numbers) == numbers


def test_neighbours_that_changed_places_are_put_in_order() -> None:
    assert fed([1, 3, 2, 4, 5, 6]) == [1, None, 2, 3, 4, 5]


def test_after_a_loss_packets_are_one_late_however_many_are_lost_later() -> None:
    assert fed([1, 3, 4, 5]) == [1, None, 3, 4]
    assert fed([1, 3, 4, 6, 7, 9, 10]) == [1, None, 3, 4, 6, 7, 9]
    assert fed([1, 8, 9, 10]) == [1, None, 8, 9]


def test_packets_that_come_too_late_or_twice_are_dropped() -> None:
    assert fed([1, 1, 3, 4, 2, 5]) == [1, None, None, 3, None, 4]


def test_a_sender_that_starts_anew_is_followed() -> None:
    assert fed([5_000, 5_001, 20, 21]) == [5_000, 5_001, 20, 21]
    assert fed([1, 30_000, 30_001, 30_002]) == [1, None, 30_000, 30_001]


@given(st.lists(st.booleans(), max_size=200), st.data())
def test_nothing_that_arrives_is_dropped_or_waits_for_more_than_one_other(
    lost: list[bool], data: st.DataObject
) -> None:
    arriving = [number for number, is_lost in enumerate([False, *lost]) if not is_lost]
    # Neighbours change places here and there; not the first, with which the stream begins.
    for i in range(1, len(arriving) - 1, 2):
        if arriving[i + 1] == arriving[i] + 1 and data.draw(st.booleans()):
            arriving[i : i + 2] = reversed(arriving[i : i + 2])
    given_back: list[int] = []
    for i, number in enumerate(fed(arriving)):
        if number is not None:
            given_back.append(number)
        assert len(given_back) >= i
    assert given_back == sorted(arriving)[: len(given_back)]


def test_holes_are_as_long_as_the_packets_that_are_missing() -> None:
    timeline = Timeline()
    timestamps = [0, FRAME, 3 * FRAME, 4 * FRAME, 9 * FRAME]
    assert [timeline.missing_samples(t, FRAME, RATE) for t in timestamps] == [
        0,
        0,
        FRAME,
        0,
        4 * FRAME,
    ]


def test_a_stream_does_not_begin_with_a_hole() -> None:
    assert Timeline().missing_samples(1_000_000, FRAME, RATE) == 0


def test_of_a_pause_only_what_the_clock_has_not_filled_is_missing() -> None:
    timeline = Timeline()
    timeline.missing_samples(0, FRAME, RATE)
    assert timeline.missing_samples(FRAME + 10 * RATE, FRAME, RATE) == RATE // 5
    assert timeline.missing_samples(2 * FRAME + 10 * RATE, FRAME, RATE) == 0


def test_a_jump_backwards_is_a_new_beginning() -> None:
    timeline = Timeline()
    timeline.missing_samples(10 * RATE, FRAME, RATE)
    assert timeline.missing_samples(0, FRAME, RATE) == 0
    assert timeline.missing_samples(2 * FRAME, FRAME, RATE) == FRAME
