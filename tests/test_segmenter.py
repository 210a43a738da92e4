"""Samples in, speech events out: the same for every chunking, and no sample lost or given twice.

Scripted audio has a character for each window of 512 samples, as in `test_endpointer.py`; no two
windows are the same.
"""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_io.endpointer import MAX_TURN_S, TurnDetection
from audio_io.errors import AudioFormatError
from audio_io.pcm import level_dbfs
from audio_io.segmenter import SpeechSegmenter
from audio_io.silero import WINDOW_SAMPLES, SileroVad
from audio_io.speech_events import (
    AudioDropped,
    PartEnded,
    PauseBegan,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    Utterance,
)
from audio_io.vad import WebRtcVad
from tests.speech import at_rate, in_chunks, join, noise_floor, phrase, prompt, silence

AMPLITUDE = {"S": 8_000, "-": 2_000, ".": 20}
PAUSE, STOP = 8, 22
"""250 and 700 ms in windows."""
PREFIX, TAIL = 450 * 16, 200 * 16
PART = 30 * 16_000


class LoudnessVad:
    """Takes for speech what is loud."""

    def probability(self, window):
        peak = np.abs(window).max()
        return 0.9 if peak > 4_000 else 0.4 if peak > 1_000 else 0.0

    def reset(self):
        pass


class DeafVad:
    """Must not be asked."""

    def probability(self, window):
        raise AssertionError("nobody asked for turn detection")

    def reset(self):
        pass


def at(windows):
    return windows * WINDOW_SAMPLES


def scripted(script):
    amplitudes = np.repeat([AMPLITUDE[kind] for kind in script], WINDOW_SAMPLES)
    noise = np.random.default_rng(0).uniform(0.6, 1, len(amplitudes))
    return (amplitudes * noise).astype(np.int16)


def span(samples, start, end):
    return Utterance(samples[start:end], start)


def segmenter(*args, detector=None):
    return SpeechSegmenter(detector or LoudnessVad(), *args)


def run(samples, *, into=None, sizes=320, rate_hz=16_000):
    into = into or segmenter()
    return [event for chunk in in_chunks(samples, sizes) for event in into.feed(chunk, rate_hz)]


# --- turns


def test_a_turn():
    audio = scripted("." * 20 + "S" * 30 + "." * 40)
    start, end = at(20) - PREFIX, at(50) + TAIL
    assert run(audio) == [
        SpeechStarted(start),
        PauseBegan(span(audio, start, end), at(50)),
        SpeechStopped(span(audio, start, end), at(50), decided_at_sample=at(50 + STOP)),
    ]


@pytest.mark.parametrize("pause_ms", range(300, 701, 50))
def test_a_person_may_pause_within_a_turn(pause_ms):
    windows = pause_ms // 32
    audio = scripted("." * 20 + "S" * 30 + "." * windows + "S" * 10 + "." * 40)
    start, end = at(20) - PREFIX, at(60 + windows)
    assert run(audio) == [
        SpeechStarted(start),
        PauseBegan(span(audio, start, at(50) + TAIL), at(50)),
        SpeechResumed(at(50 + windows)),
        PauseBegan(span(audio, start, end + TAIL), end),
        SpeechStopped(span(audio, start, end + TAIL), end, end + at(STOP)),
    ]


def test_after_a_longer_pause_another_turn_starts_behind_the_first():
    audio = scripted("." * 20 + "S" * 30 + "." * 23 + "S" * 10 + "." * 40)
    start = at(20) - PREFIX
    second_start = at(73) - PREFIX
    assert second_start > at(50) + TAIL
    assert run(audio) == [
        SpeechStarted(start),
        PauseBegan(span(audio, start, at(50) + TAIL), at(50)),
        SpeechStopped(span(audio, start, at(50) + TAIL), at(50), at(72)),
        SpeechStarted(second_start),
        PauseBegan(span(audio, second_start, at(83) + TAIL), at(83)),
        SpeechStopped(span(audio, second_start, at(83) + TAIL), at(83), at(83 + STOP)),
    ]


@pytest.mark.parametrize(
    ("prefix_ms", "start"),
    [(0, at(100) - PREFIX), (600, at(100) - 600 * 16), (10_000, 0)],
)
def test_the_prefix_is_450_ms_at_least_and_begins_with_the_stream(prefix_ms, start):
    audio = scripted("." * 100 + "S" * 6)
    detection = TurnDetection(prefix_padding_ms=prefix_ms)
    assert run(audio, into=segmenter(detection)) == [SpeechStarted(start)]


def test_the_prefix_never_reaches_into_the_utterance_before():
    audio = scripted("." * 20 + "S" * 30 + "." * 40 + "S" * 6)
    detection = TurnDetection(prefix_padding_ms=10_000)
    assert run(audio, into=segmenter(detection))[-1] == SpeechStarted(at(50) + TAIL)


# --- long speech


def test_long_speech_is_cut_where_it_is_quietest():
    script = "." * 20 + "S" * 880 + "---" + "S" * 300 + "." * 40
    audio = scripted(script).copy()
    audio[at(901) - 200 :][:960] = 7  # in the middle of the three windows, at 28.8 s
    start, cut, end = at(20) - PREFIX, at(901) + 280, at(1_203)
    assert run(audio) == [
        SpeechStarted(start),
        PartEnded(span(audio, start, cut)),
        PauseBegan(span(audio, cut, end + TAIL), end),
        SpeechStopped(span(audio, cut, end + TAIL), end, end + at(STOP)),
    ]


def test_30_seconds_are_not_cut():
    # 450 ms before and 200 ms after 916 windows of speech are 29.962 s; with one more, 29.994 s.
    audio = scripted("." * 20 + "S" * 917 + "." * 30)
    events = run(audio)
    assert [type(event) for event in events] == [SpeechStarted, PauseBegan, SpeechStopped]
    assert len(events[-1].utterance.samples) == PREFIX + at(917) + TAIL <= PART

    events = run(scripted("." * 20 + "S" * 918 + "." * 30))
    assert [type(event) for event in events[:2]] == [SpeechStarted, PartEnded]


def test_what_follows_a_long_pause_may_need_the_cut_in_the_pause():
    audio = scripted("." * 20 + "S" * 850 + "." * 300 + "S" * 20)
    detection = TurnDetection(silence_duration_ms=10_000)
    start = at(20) - PREFIX
    started, paused, resumed, part = run(audio, into=segmenter(detection))
    assert (started, resumed) == (SpeechStarted(start), SpeechResumed(at(1_170)))
    assert paused == PauseBegan(span(audio, start, at(870) + TAIL), at(870))
    cut = part.utterance.end_sample
    assert at(870) < cut <= start + PART
    assert part == PartEnded(span(audio, start, cut))


def test_speech_without_end_comes_in_parts_and_ends_after_the_longest_turn():
    audio = scripted("." * 20 + "S" * (MAX_TURN_S * 16_000 // 512) + "." + "S" * 100)
    events = run(audio, sizes=16_000)
    stop_at = at(20) + MAX_TURN_S * 16_000
    assert {type(event) for event in events[1:-2]} == {PartEnded}
    started, stopped, started_again = events[0], *events[-2:]
    assert started == SpeechStarted(at(20) - PREFIX)
    assert stopped == SpeechStopped(stopped.utterance, stop_at, stop_at)
    assert started_again == SpeechStarted(stop_at)
    parts = [event.utterance for event in events[1:-1]]
    cuts = [started.start_sample, *(part.end_sample for part in parts)]
    assert cuts[-1] == stop_at
    assert parts == [span(audio, start, end) for start, end in pairwise(cuts)]
    assert all(25 * 16_000 <= len(part.samples) <= PART for part in parts[:-1])


def test_the_longest_turn_may_run_out_just_after_a_part_ended():
    windows = MAX_TURN_S * 16_000 // 512
    stop = 20 + windows
    # The last part is full one window before the turn's longest time, and cut just before that.
    dips = [*np.linspace(20 + 860, stop - 933, 10).astype(int), stop - 2]
    script = list("." * 20 + "S" * windows)
    for dip in dips:
        script[dip - 2 : dip + 1] = "---"
    audio = scripted("".join(script)).copy()
    for dip in dips:
        audio[at(dip) - 480 : at(dip) + 480] = 0
    cuts = [at(20) - PREFIX, *map(at, dips)]
    assert run(audio, sizes=16_000) == [
        SpeechStarted(cuts[0]),
        *(PartEnded(span(audio, start, end)) for start, end in pairwise(cuts)),
        SpeechStopped(None, at(stop), at(stop)),
    ]


# --- manual turns


def test_without_turn_detection_nothing_is_judged_and_all_is_handed_over_on_flush():
    audio = scripted("." * 20 + "S" * 100 + "." * 60)
    hearing = segmenter(None, detector=DeafVad())
    assert run(audio[:50_000], into=hearing) == []
    assert hearing.flush() == span(audio, 0, 50_000)
    assert run(audio[50_000:], into=hearing) == []
    assert hearing.flush() == span(audio, 50_000, len(audio))
    assert hearing.flush() is None


def test_long_manual_speech_is_cut_where_it_is_quietest():
    audio = scripted("S" * 880 + "..." + "S" * 300).copy()
    audio[at(881) + 11 :][:960] = 0
    cut = at(881) + 491
    hearing = segmenter(None)
    assert run(audio, into=hearing) == [PartEnded(span(audio, 0, cut))]
    assert hearing.flush() == span(audio, cut, len(audio))


def test_manual_speech_of_30_seconds_is_one_part():
    audio = scripted("S" * 938)
    hearing = segmenter(None)
    assert run(audio[:PART], into=hearing) == []
    assert hearing.flush() == span(audio, 0, PART)
    assert [type(event) for event in run(audio[: PART + 1], into=hearing)] == [PartEnded]


def test_beyond_the_longest_turn_the_newest_is_dropped_and_that_is_said_once():
    limit = MAX_TURN_S * 16_000
    audio = scripted("S" * (limit // 512 + 300))
    hearing = segmenter(None)
    events = run(audio, into=hearing, sizes=[16_001])
    assert events[-1] == AudioDropped(limit)
    assert {type(event) for event in events[:-1]} == {PartEnded}
    utterances = [*(event.utterance for event in events[:-1]), hearing.flush()]
    cuts = [0, *(utterance.end_sample for utterance in utterances)]
    assert cuts[-1] == limit
    assert utterances == [span(audio, start, end) for start, end in pairwise(cuts)]
    assert hearing.position_samples == len(audio)

    assert run(audio[:5_000], into=hearing) == []
    assert hearing.flush() == Utterance(audio[:5_000], len(audio))


def test_the_longest_turn_may_be_set_to_another_length():
    limit = 40 * 16_000
    audio = scripted("S" * (limit // 512 + 300))
    by_hand = SpeechSegmenter(LoudnessVad(), None, max_turn_s=40)
    assert AudioDropped(limit) in run(audio, into=by_hand)
    spoken = SpeechSegmenter(LoudnessVad(), max_turn_s=40)
    stops = [event for event in run(audio, into=spoken) if isinstance(event, SpeechStopped)]
    assert [event.decided_at_sample for event in stops] == [limit]


# --- flush


def test_while_nobody_speaks_a_flush_gives_the_newest_30_seconds():
    audio = scripted("." * 1_000)
    hearing = segmenter()
    run(audio, into=hearing)
    assert hearing.flush() == span(audio, len(audio) - PART, len(audio))
    assert hearing.flush() is None


def test_under_100_ms_a_flush_gives_nothing_and_keeps_it():
    audio = scripted("." * 10)
    hearing = segmenter()
    run(audio[:1_599], into=hearing)
    assert hearing.flush() is None
    run(audio[1_599:2_000], into=hearing)
    assert hearing.flush() == span(audio, 0, 2_000)


def test_a_flush_in_speech_ends_the_turn_and_its_rest_becomes_another():
    audio = scripted("." * 20 + "S" * 50 + "." * 40)
    hearing = segmenter()
    cut = at(40) + 100
    assert run(audio[:cut], into=hearing) == [SpeechStarted(at(20) - PREFIX)]
    assert hearing.speaking
    assert hearing.flush() == span(audio, at(20) - PREFIX, cut)
    assert not hearing.speaking
    # Windows are counted from the flush on, so they end 100 samples after the script's.
    end = at(70) + 100
    assert run(audio[cut:], into=hearing) == [
        SpeechStarted(cut),
        PauseBegan(span(audio, cut, end + TAIL), end),
        SpeechStopped(span(audio, cut, end + TAIL), end, end + at(STOP)),
    ]


def test_a_flush_in_a_pause_gives_what_the_pause_began_with():
    audio = scripted("." * 20 + "S" * 30 + "." * 15 + "S" * 10)
    hearing = segmenter()
    _, pause = run(audio[: at(62) + 77], into=hearing)
    assert hearing.flush() == pause.utterance
    assert not hearing.speaking
    assert hearing.flush() is None
    assert run(audio[at(62) + 77 :], into=hearing) == [SpeechStarted(at(62) + 77)]


def test_a_flush_in_a_pause_that_seems_to_end_gives_all():
    audio = scripted("." * 20 + "S" * 30 + "." * 15 + "S")
    hearing = segmenter()
    run(audio, into=hearing)
    assert hearing.flush() == span(audio, at(20) - PREFIX, len(audio))


def test_a_flush_gives_what_the_resampler_held_back():
    voice = at_rate(phrase("Front_Center"), 24_000)
    hearing = segmenter(None)
    hearing.feed(voice, 24_000)
    assert hearing.position_samples < len(phrase("Front_Center"))
    assert len(hearing.flush().samples) == hearing.position_samples == len(phrase("Front_Center"))


def test_a_flush_hands_over_at_most_30_seconds_and_keeps_the_rest():
    audio = scripted("S" * 917 + "." * 60)
    hearing = segmenter(TurnDetection(pause_ms=2_000, silence_duration_ms=2_000))
    run(audio[: PART + 3_000], into=hearing)
    assert hearing.flush() == span(audio, 0, PART)
    assert hearing.flush() == span(audio, PART, PART + 3_000)


# --- clear, configure


def test_clear_forgets_what_was_heard_and_the_clock_goes_on():
    audio = scripted("." * 20 + "S" * 50 + "." * 40)
    hearing = segmenter()
    run(audio[: at(40)], into=hearing)
    hearing.clear()
    assert not hearing.speaking
    assert hearing.position_samples == at(40)
    assert hearing.flush() is None
    assert run(audio[at(40) :], into=hearing) == [
        SpeechStarted(at(40)),
        PauseBegan(span(audio, at(40), at(70) + TAIL), at(70)),
        SpeechStopped(span(audio, at(40), at(70) + TAIL), at(70), at(70 + STOP)),
    ]


def test_clear_makes_room_for_manual_audio_again():
    audio = scripted("S" * (MAX_TURN_S * 16_000 // 512 + 10))
    hearing = segmenter(None)
    assert AudioDropped(MAX_TURN_S * 16_000) in run(audio, into=hearing, sizes=16_000)
    hearing.clear()
    assert hearing.flush() is None
    assert run(audio[:3_000], into=hearing) == []
    assert hearing.flush() == Utterance(audio[:3_000], len(audio))


def test_other_settings_leave_an_open_turn_open():
    audio = scripted("." * 20 + "S" * 30 + "." * 40)
    hearing = segmenter()
    start, end = at(20) - PREFIX, at(50) + TAIL
    assert run(audio[: at(40)], into=hearing) == [SpeechStarted(start)]
    hearing.configure(TurnDetection(silence_duration_ms=320))
    assert run(audio[at(40) :], into=hearing) == [
        PauseBegan(span(audio, start, end), at(50)),
        SpeechStopped(span(audio, start, end), at(50), at(60)),
    ]


def test_turn_detection_may_be_switched_off_and_on_in_the_middle_of_a_turn():
    audio = scripted("." * 20 + "S" * 60 + "." * 40 + "S" * 6)
    hearing = segmenter()
    start = at(20) - PREFIX
    assert run(audio[: at(40)], into=hearing) == [SpeechStarted(start)]

    hearing.configure(None)
    assert not hearing.speaking
    assert run(audio[at(40) : at(50)], into=hearing) == []
    assert hearing.flush() == span(audio, start, at(50))
    assert run(audio[at(50) : at(60)], into=hearing) == []

    hearing.configure(TurnDetection())
    assert run(audio[at(60) :], into=hearing) == [
        SpeechStarted(at(60) - PREFIX if at(60) - PREFIX > at(50) else at(50)),
        PauseBegan(span(audio, at(50), at(80) + TAIL), at(80)),
        SpeechStopped(span(audio, at(50), at(80) + TAIL), at(80), at(80 + STOP)),
        SpeechStarted(at(120) - PREFIX),
    ]


def test_the_same_setting_again_changes_nothing():
    audio = scripted("S" * 100)
    hearing = segmenter(None)
    run(audio[:30_000], into=hearing)
    hearing.configure(None)
    run(audio[30_000:], into=hearing)
    assert hearing.flush() == span(audio, 0, len(audio))


# --- formats


def test_positions_count_input_across_rates_and_channels():
    hearing = segmenter()
    for rate in (24_000, 8_000, 48_000, 44_100, 16_000):
        hearing.feed(np.zeros((rate // 2, 2), np.int16), rate)
        hearing.feed(np.zeros(rate // 2, np.int16), rate)
    assert hearing.position_samples == 5 * 16_000


def test_a_rate_that_cannot_be_used_is_an_error_that_changes_nothing():
    audio = at_rate(scripted("." * 20 + "S" * 60 + "." * 40), 24_000)
    hearing = segmenter()
    events = run(audio[:40_000], into=hearing, rate_hz=24_000)
    with pytest.raises(AudioFormatError, match="4000 Hz"):
        hearing.feed(audio, 4_000)
    events += run(audio[40_000:], into=hearing, rate_hz=24_000)
    assert events == run(audio, rate_hz=24_000)


# --- any chunking


def conversation():
    """Two women, pauses of 300 to 900 ms, long speech, in a room."""
    voices = [
        silence(400),
        prompt("hello-world"),
        silence(300),
        prompt("vm-goodbye"),
        silence(600),
        phrase("Front_Center"),
        silence(900),
        prompt("conf-adminmenu-162")[: 9 * 16_000],
        silence(1_000),
    ]
    return noise_floor(join(*voices), -65)


def as_stereo(samples):
    return np.stack([samples, samples], axis=1)


@pytest.mark.parametrize(
    ("detector", "rate_hz", "channels"),
    [(SileroVad, 24_000, 1), (WebRtcVad, 16_000, 1), (WebRtcVad, 48_000, 2), (WebRtcVad, 8_000, 1)],
)
def test_events_are_the_same_for_every_chunking(detector, rate_hz, channels):
    audio = at_rate(conversation(), rate_hz)
    audio = as_stereo(audio) if channels == 2 else audio
    detector = detector()

    def events(sizes):
        detector.reset()
        return run(audio, into=SpeechSegmenter(detector), sizes=sizes, rate_hz=rate_hz)

    whole = events(len(audio))
    assert {type(event) for event in whole} >= {SpeechStarted, PauseBegan, SpeechStopped}

    @settings(max_examples=12, deadline=None)
    @given(st.lists(st.integers(1, 30_000), max_size=30).filter(lambda n: sum(n) > 500 * len(n)))
    def same(sizes):
        assert events(sizes) == whole

    same()
    assert events(rate_hz // 50) == whole


@settings(max_examples=200, deadline=None)
@given(
    script=st.lists(st.sampled_from(["S" * 9, "." * 9, "." * 25, "-", "S", "."]), max_size=60),
    orders=st.dictionaries(
        st.integers(0, 100_000),
        st.sampled_from(["flush", "clear", "manual", "vad", "short"]),
        max_size=8,
    ),
    sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=9),
)
def test_orders_at_the_same_samples_give_the_same_for_every_chunking(script, orders, sizes):
    audio = scripted("".join(script))
    stops = [0, *sorted(position for position in orders if position < len(audio)), len(audio)]

    def heard(sizes):
        hearing = segmenter()
        seen = []
        for start, stop in pairwise(stops):
            match orders.get(start):
                case "flush":
                    seen.append(hearing.flush())
                case "clear":
                    hearing.clear()
                case "manual":
                    hearing.configure(None)
                case "vad":
                    hearing.configure(TurnDetection())
                case "short":
                    hearing.configure(TurnDetection(silence_duration_ms=200))
            seen += run(audio[start:stop], into=hearing, sizes=sizes)
        seen += [hearing.flush(), hearing.position_samples]
        return seen

    once = heard(1_000_000)
    assert heard(sizes) == once
    handed_over = [
        event if isinstance(event, Utterance) else event.utterance
        for event in once
        if isinstance(event, Utterance | PartEnded | SpeechStopped)
    ]
    for utterance in handed_over:
        assert utterance == span(audio, utterance.start_sample, utterance.end_sample)
    for earlier, later in pairwise(handed_over):
        assert earlier.end_sample <= later.start_sample


# --- real voices


@pytest.fixture
def silero():
    return SileroVad()


def voiced_span(samples):
    """From the first to the last sample that is clearly above the recording's noise."""
    loud = np.flatnonzero(np.abs(samples) > 400)
    return int(loud[0]), int(loud[-1])


@pytest.mark.parametrize("pause_ms", [300, 500])
def test_a_spoken_pause_does_not_end_the_turn(silero, pause_ms):
    first, second = prompt("vm-goodbye"), prompt("vm-sorry")
    first, second = (v[slice(*voiced_span(v))] for v in (first, second))
    audio = join(silence(1_000), first, silence(pause_ms), second, silence(1_200))
    events = run(audio, into=segmenter(detector=silero))
    assert [type(event) for event in events if type(event) is SpeechStopped] == [SpeechStopped]
    utterance = events[-1].utterance
    assert utterance.start_sample <= 16_000 - 300 * 16
    spoken = 16_000 + len(first) + pause_ms * 16 + len(second)
    assert spoken <= utterance.end_sample <= spoken + 6_400
    assert 600 * 16 <= events[-1].decided_at_sample - spoken <= 1_000 * 16


def test_after_a_second_of_silence_it_is_another_turn(silero):
    audio = join(silence(500), prompt("hello-world"), silence(1_000), prompt("vm-goodbye"))
    events = run(join(audio, silence(1_200)), into=segmenter(detector=silero))
    assert [type(event) for event in events if type(event) in (SpeechStarted, SpeechStopped)] == [
        SpeechStarted,
        SpeechStopped,
    ] * 2


def test_a_long_prompt_is_cut_between_words(silero):
    voice = join(prompt("demo-congrats"), prompt("conf-adminmenu-162"))
    audio = noise_floor(join(silence(600), voice, silence(1_000)), -70)
    events = run(audio, into=segmenter(detector=silero))
    parts = [event.utterance for event in events if isinstance(event, PartEnded | SpeechStopped)]
    assert len(parts) >= 2
    for before, after in pairwise(parts):
        assert len(before.samples) <= PART
        cut = before.end_sample
        assert cut == after.start_sample
        assert level_dbfs(audio[cut - 80 : cut + 80]) < -55


# --- values and bounds


def test_utterances_are_equal_by_place_and_samples_and_read_only():
    audio = scripted("S" * 40)
    utterance = Utterance(audio[:2_000], 0)
    assert utterance == Utterance(audio[:2_000].copy(), 0)
    assert hash(utterance) == hash(Utterance(audio[:2_000].copy(), 0))
    assert utterance != replace(utterance, start_sample=1)
    assert utterance != Utterance(audio[1:2_001], 0)
    assert utterance != Utterance(audio[:1_999], 0)
    assert utterance != "utterance"
    assert (utterance.start_sample, utterance.end_sample) == (0, 2_000)

    hearing = segmenter(None)
    hearing.feed(audio, 16_000)
    with pytest.raises(ValueError, match="read-only"):
        hearing.flush().samples[0] = 1


@pytest.mark.parametrize("detection", [None, TurnDetection(silence_duration_ms=10_000)])
def test_memory_is_bounded(detection):
    minute = scripted("S" * 1_500 + "." * 375)
    hearing = segmenter(detection)
    tracemalloc.start()
    try:
        for _ in range(8):
            run(minute, into=hearing, sizes=8_000)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
