"""Speech that lasts: confirmed once in a turn, at the same window for every chunking.

A script has a character for each window of 32 ms: `S` is speech, `.` silence.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_io.confirmation import Confirmation
from audio_io.endpointer import Endpointer, Pause, Resume, Start, TurnDetection
from audio_io.pcm import Int16Array
from audio_io.segmenter import SpeechSegmenter
from audio_io.silero import WINDOW_SAMPLES
from audio_io.speech_events import SpeechConfirmed, SpeechStarted
from tests.speech import in_chunks

WINDOWS = 10
"""What has to be spoken in these tests, in windows."""
DETECTION = TurnDetection(confirm_ms=WINDOWS * 32)


def confirmed(script: str, detection: TurnDetection = DETECTION) -> list[int]:
    """After how many windows the turns of `script` were confirmed."""
    endpointer, confirmation = Endpointer(detection), Confirmation()
    return [
        count
        for count, kind in enumerate(script, 1)
        if confirmation.push(endpointer.push(0.9 if kind == "S" else 0.0), endpointer)
    ]


@pytest.mark.parametrize(
    ("script", "windows"),
    [
        pytest.param("..." + "S" * 9 + "." * 40, [], id="a short sound"),
        pytest.param("..." + "S" * 10 + "." * 40, [13], id="long enough"),
        pytest.param("..." + "S" * 50 + "." * 40, [13], id="told once"),
        pytest.param("SSSSSS...S", [10], id="a gap that is no pause counts"),
        pytest.param("SSSSSS" + "." * 10 + "SSSS", [20], id="a pause doesn't"),
        pytest.param("SSSSSS" + ("." * 10 + "SS") * 3, [30], id="short sounds in one turn add up"),
        pytest.param(("SSSSSS" + "." * 25) * 4, [], id="of several turns they don't"),
        pytest.param(("S" * 12 + "." * 25) * 2, [10, 47], id="each turn anew"),
    ],
)
def test_when_it_is_confirmed(script: str, windows: list[int]) -> None:
    assert confirmed(script) == windows


def test_without_a_time_nothing_is_confirmed_and_with_none_the_start_is() -> None:
    script = "." * 3 + "S" * 30
    assert confirmed(script, TurnDetection()) == []
    assert confirmed(script, TurnDetection(confirm_ms=0)) == [9]


@given(st.text("SSS.", max_size=150))
def test_it_is_the_speech_between_the_pauses_that_counts(script: str) -> None:
    endpointer, confirmation = Endpointer(DETECTION), Confirmation()
    spoken, since, told = 0, None, False
    for kind in script:
        transitions = endpointer.push(0.9 if kind == "S" else 0.0)
        for transition in transitions:
            match transition:
                case Start(at):
                    spoken, since, told = 0, at, False
                case Pause(at):
                    assert since is not None
                    spoken, since = spoken + at - since, None
                case Resume(at):
                    since = at
        total = spoken + (endpointer.speech_end_sample - since if since is not None else 0)
        is_confirmed = confirmation.push(transitions, endpointer)
        enough = endpointer.speaking and total >= WINDOWS * WINDOW_SAMPLES
        assert is_confirmed == (enough and not told)
        told |= is_confirmed


class LevelVad:
    """Takes for speech what is loud."""

    def probability(self, window: Int16Array) -> float:
        return 0.9 if np.abs(window).max() > 1000 else 0.0

    def reset(self) -> None: ...


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_the_segmenter_tells_it_between_start_and_pause(sizes: list[int]) -> None:
    script = "." * 20 + "S" * 12 + "." * 9
    audio = np.repeat([8000 * (kind == "S") for kind in script], WINDOW_SAMPLES).astype(np.int16)
    segmenter = SpeechSegmenter(LevelVad(), DETECTION)
    events = [e for chunk in in_chunks(audio, sizes) for e in segmenter.feed(chunk, 16_000)]
    started, is_confirmed, _ = events
    assert isinstance(started, SpeechStarted)
    assert is_confirmed == SpeechConfirmed(30 * WINDOW_SAMPLES)


def test_a_turn_taken_before_it_was_confirmed_confirms_nothing() -> None:
    segmenter = SpeechSegmenter(LevelVad(), DETECTION)
    loud = np.full(8 * WINDOW_SAMPLES, 8000, np.int16)
    assert [type(event) for event in segmenter.feed(loud, 16_000)] == [SpeechStarted]
    segmenter.flush()
    assert [type(event) for event in segmenter.feed(loud, 16_000)] == [SpeechStarted]
