"""The endpointer's state machine, from scripted probabilities to whole lists of transitions.

A script has a character for each window: `S` is voiced, `.` silent, `-` neither.
"""

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from audio_io.endpointer import (
    MAX_TURN_S,
    Endpointer,
    Pause,
    Resume,
    Start,
    Stop,
    TurnDetection,
)
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.silero import WINDOW_SAMPLES

PROBABILITY = {"S": 0.5, "-": 0.36, ".": 0.34}

PAUSE_WINDOWS = 8
"""250 ms in windows of 32 ms."""
STOP_WINDOWS = 22
"""700 ms in windows of 32 ms."""


def at(windows):
    return windows * WINDOW_SAMPLES


def run(script, endpointer=None):
    """Every transition with the number of windows after which it was decided."""
    endpointer = endpointer or Endpointer(TurnDetection())
    return [
        (count, transition)
        for count, kind in enumerate(script, 1)
        for transition in endpointer.push(PROBABILITY[kind])
    ]


@pytest.mark.parametrize(
    ("script", "decided", "first"),
    [
        ("...SSSSSS", 9, 3),
        ("SSSSSS", 6, 0),
        ("..S.SSSSS", 9, 2),
        ("..SSS.SS.S", 10, 2),
        ("..SSSS--SS", 10, 2),
        ("S.S.S.SSSSS", 10, 2),
        ("S..SSSSSS", 8, 0),
        ("SSSSS...SS..SSSS", 16, 8),
    ],
)
def test_six_of_the_last_eight_windows_start_a_turn(script, decided, first):
    assert run(script) == [(decided, Start(at(first)))]


@pytest.mark.parametrize(
    "script", ["", "." * 50, "-" * 50, "SSSSS...", "SSSSS---" * 9, "S.S." * 9, "SS.S.S.." * 9]
)
def test_less_starts_nothing(script):
    assert run(script) == []


def test_a_turn_pauses_and_stops_at_the_end_of_its_speech():
    assert run("." * 5 + "S" * 10 + "." * 40) == [
        (11, Start(at(5))),
        (15 + PAUSE_WINDOWS, Pause(at(15))),
        (15 + STOP_WINDOWS, Stop(at(15))),
    ]


def test_between_the_thresholds_speech_goes_on_and_a_pause_does_too():
    assert run("S" * 6 + "-" * 30 + "." * 10 + "-" * 30) == [
        (6, Start(at(0))),
        (36 + PAUSE_WINDOWS, Pause(at(36))),
        (36 + STOP_WINDOWS, Stop(at(36))),
    ]


def test_a_gap_shorter_than_a_pause_is_part_of_the_speech():
    gaps = ("." * (PAUSE_WINDOWS - 1) + "S") * 20
    assert run("S" * 6 + gaps + "." * PAUSE_WINDOWS) == [
        (6, Start(at(0))),
        (166 + PAUSE_WINDOWS, Pause(at(166))),
    ]


@pytest.mark.parametrize("pause_ms", range(300, 701, 50))
def test_a_person_may_pause_within_a_turn(pause_ms):
    windows = pause_ms // 32
    second_end = 6 + windows + 6
    assert run("S" * 6 + "." * windows + "S" * 6 + "." * 30) == [
        (6, Start(at(0))),
        (6 + PAUSE_WINDOWS, Pause(at(6))),
        (6 + windows + 2, Resume(at(6 + windows))),
        (second_end + PAUSE_WINDOWS, Pause(at(second_end))),
        (second_end + STOP_WINDOWS, Stop(at(second_end))),
    ]


def test_a_longer_pause_ends_the_turn():
    assert run("S" * 6 + "." * (800 // 32) + "S" * 6) == [
        (6, Start(at(0))),
        (6 + PAUSE_WINDOWS, Pause(at(6))),
        (6 + STOP_WINDOWS, Stop(at(6))),
        (6 + 25 + 6, Start(at(6 + 25))),
    ]


def test_lone_voiced_windows_in_a_pause_change_nothing():
    assert run("S" * 6 + "." * 10 + "S.S-S.." + "." * 20) == [
        (6, Start(at(0))),
        (6 + PAUSE_WINDOWS, Pause(at(6))),
        (6 + STOP_WINDOWS, Stop(at(6))),
    ]


def test_speech_in_the_last_window_of_the_silence_is_given_one_more():
    speech_then_silence = "S" * 6 + "." * (STOP_WINDOWS - 1)
    paused = [(6, Start(at(0))), (6 + PAUSE_WINDOWS, Pause(at(6)))]
    assert run(speech_then_silence + "SS") == [*paused, (29, Resume(at(27)))]
    assert run(speech_then_silence + "S.") == [*paused, (29, Stop(at(6)))]


def test_a_stop_is_preceded_by_its_pause_where_less_silence_ends_a_turn():
    detection = TurnDetection(silence_duration_ms=200, pause_ms=250)
    assert run("S" * 6 + "." * 20, Endpointer(detection)) == [
        (6, Start(at(0))),
        (6 + 7, Pause(at(6))),
        (6 + 7, Stop(at(6))),
    ]


def test_the_longest_turn_is_ended_and_speech_starts_another():
    windows = MAX_TURN_S * SAMPLE_RATE_HZ // WINDOW_SAMPLES
    assert at(windows) == MAX_TURN_S * SAMPLE_RATE_HZ
    assert run("." + "S" * (windows + 6)) == [
        (7, Start(at(1))),
        (windows + 1, Stop(at(windows + 1))),
        (windows + 7, Start(at(windows + 1))),
    ]


def test_windows_of_the_last_turn_start_no_other():
    windows = MAX_TURN_S * SAMPLE_RATE_HZ // WINDOW_SAMPLES
    assert run("S" * windows + "." + "SSS.SSS") == [
        (6, Start(at(0))),
        (windows, Stop(at(windows))),
        (windows + 8, Start(at(windows + 1))),
    ]


def test_the_longest_turn_is_ended_in_a_pause_too():
    windows = MAX_TURN_S * SAMPLE_RATE_HZ // WINDOW_SAMPLES
    assert run("S" * (windows - 10) + "." * 10) == [
        (6, Start(at(0))),
        (windows - 2, Pause(at(windows - 10))),
        (windows, Stop(at(windows - 10))),
    ]


def test_positions_count_from_where_it_began():
    endpointer = Endpointer(TurnDetection(), position_samples=1_001)
    assert run("..SSSSSS", endpointer) == [(8, Start(1_001 + at(2)))]
    assert endpointer.position_samples == 1_001 + at(8)


def test_pausing_means_that_nothing_hints_at_speech():
    endpointer = Endpointer(TurnDetection())
    seen = []
    for kind in "S" * 6 + "." * PAUSE_WINDOWS + "-S.SS":
        endpointer.push(PROBABILITY[kind])
        seen.append((endpointer.speaking, endpointer.pausing))
    idle, speech, pause = (False, False), (True, False), (True, True)
    assert seen == [idle] * 5 + [speech] * PAUSE_WINDOWS + [
        pause,
        pause,
        speech,
        pause,
        speech,
        speech,
    ]


def test_other_settings_leave_an_open_turn_open():
    endpointer = Endpointer(TurnDetection())
    assert run("S" * 6 + "." * 9, endpointer) == [
        (6, Start(at(0))),
        (6 + PAUSE_WINDOWS, Pause(at(6))),
    ]
    endpointer.detection = replace(endpointer.detection, silence_duration_ms=500)
    assert run("." * 10, endpointer) == [(7, Stop(at(6)))]  # 7 + 9 windows are 512 ms


def test_a_higher_threshold_takes_more():
    endpointer = Endpointer(TurnDetection(threshold=0.8))
    scripted = [0.79] * 9 + [0.8] * 6 + [0.66] * 9 + [0.64] * 8
    transitions = [t for p in scripted for t in endpointer.push(p)]
    assert transitions == [Start(at(9)), Pause(at(24))]


def test_silence_stays_possible_at_the_lowest_threshold():
    endpointer = Endpointer(TurnDetection(threshold=0.1))
    transitions = [t for p in [0.1] * 6 + [0.04] * 22 for t in endpointer.push(p)]
    assert transitions == [Start(0), Pause(at(6)), Stop(at(6))]


@given(st.text(alphabet="S-.", max_size=300), st.sampled_from([200, 500, 700, 2_000]))
def test_transitions_come_in_order_whatever_the_probabilities(script, silence_duration_ms):
    endpointer = Endpointer(TurnDetection(silence_duration_ms=silence_duration_ms))
    allowed = {"Stop": "Start", "Start": "Pause", "Pause": "Resume Stop", "Resume": "Pause"}
    last, turn_start, speech_end = "Stop", 0, 0
    for decided, transition in run(script, endpointer):
        assert type(transition).__name__ in allowed[last].split()
        last = type(transition).__name__
        match transition:
            case Start(start):
                assert start >= speech_end
                turn_start = start
            case Pause(end):
                assert turn_start < end <= at(decided) - 200 * 16
                speech_end = end
            case Resume(position):
                assert position > speech_end
            case Stop(end):
                assert end == speech_end
                assert at(decided) - end >= silence_duration_ms * 16
    assert endpointer.speaking == (last != "Stop")


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("threshold", 0.09, "greater than or equal to 0.1"),
        ("threshold", 0.96, "less than or equal to 0.95"),
        ("prefix_padding_ms", -1, "greater than or equal to 0"),
        ("prefix_padding_ms", 10_001, "less than or equal to 10000"),
        ("silence_duration_ms", 199, "greater than or equal to 200"),
        ("silence_duration_ms", 10_001, "less than or equal to 10000"),
        ("pause_ms", 199, "greater than or equal to 200"),
        ("pause_ms", 2_001, "less than or equal to 2000"),
        ("threshold", "loud", "valid number"),
        ("aggressiveness", 3, "Unexpected keyword"),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(field, value, bound):
    with pytest.raises(ValidationError) as caught:
        TurnDetection(**{field: value})
    (error,) = caught.value.errors()
    assert error["loc"] == (field,)
    assert error["input"] == value
    assert bound in error["msg"]


def test_settings_are_values():
    assert TurnDetection() == TurnDetection(0.5, 450, 700, 250)
    with pytest.raises(FrozenInstanceError):
        TurnDetection().pause_ms = 300
