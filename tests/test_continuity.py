"""When audio counts as stopped, and how much silence takes its place."""

from hypothesis import given
from hypothesis import strategies as st

from audio_io.continuity import AudioClock


def run(arrivals, checks, sample_rate_hz=24_000):
    """What is missing at each check; arrivals: (time in ms, length in ms)."""
    clock = AudioClock()
    moments = sorted([(at, 0, length) for at, length in arrivals] + [(at, 1, 0) for at in checks])
    missing = []
    for now_ms, is_check, length_ms in moments:
        if is_check:
            missing.append((now_ms, clock.missing(now_ms)))
        else:
            clock.arrived(length_ms * sample_rate_hz // 1000, sample_rate_hz, now_ms)
    return missing


def test_before_the_first_audio_nothing_is_missing():
    clock = AudioClock()
    assert clock.next_check_ms is None
    assert clock.missing(1_000_000) == 0
    clock.arrived(0, 24_000, 5)
    assert clock.next_check_ms is None


def test_a_steady_stream_is_never_stalled():
    for length_ms in (10, 20, 100, 500, 1_000):
        arrivals = [(at, length_ms) for at in range(0, 5_000, length_ms)]
        checks = range(1, 5_000, 37)
        assert run(arrivals, checks) == [(at, 0) for at in checks]


def test_small_chunks_that_come_in_bursts_are_no_stall():
    arrivals = [(at, 20) for at in range(0, 5_000, 1_000) for _ in range(50)]
    checks = range(1, 5_000, 37)
    assert run(arrivals, checks) == [(at, 0) for at in checks]


def test_a_chunk_200_ms_late_is_no_stall():
    checks = [100, 219, 220]
    assert run([(0, 20), (220, 20)], checks) == [(at, 0) for at in checks]


def test_silence_is_due_at_wall_clock_rate_from_the_stall_until_audio_comes():
    assert run([(0, 20), (450, 20)], [220, 221, 270, 400, 400, 460, 670, 700]) == [
        (220, 0),
        (221, 1 * 16),
        (270, 49 * 16),
        (400, 130 * 16),
        (400, 0),
        (460, 0),
        (670, 0),
        (700, 30 * 16),
    ]


def test_a_long_chunk_is_waited_for_one_second_at_most():
    assert run([(0, 30_000)], [1_000, 1_200, 1_250]) == [(1_000, 0), (1_200, 0), (1_250, 50 * 16)]


def test_the_rate_says_how_long_a_chunk_is():
    for rate in (8_000, 16_000, 48_000):
        assert run([(0, 500)], [700, 701], rate) == [(700, 0), (701, 16)]


def test_the_next_check_is_when_a_step_of_silence_is_due():
    clock = AudioClock()
    clock.arrived(480, 24_000, 1_000)
    assert clock.next_check_ms == 1_270
    assert clock.missing(1_270) == 50 * 16
    assert clock.next_check_ms == 1_320
    assert clock.missing(1_333) == 63 * 16
    assert clock.next_check_ms == 1_383
    clock.arrived(480, 24_000, 1_340)
    assert clock.next_check_ms == 1_610


@given(st.lists(st.integers(0, 10_000), max_size=50))
def test_the_silence_of_a_stall_adds_up_however_often_it_is_asked_for(checks):
    missing = run([(0, 20)], [*checks, 10_000])
    assert sum(samples for _, samples in missing) == (10_000 - 220) * 16
