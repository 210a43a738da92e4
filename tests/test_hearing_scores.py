"""The hearing benchmark's arithmetic: from truth and what was heard to a score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hearing.labels import Span, speech_spans
from benchmarks.hearing.scenes import Condition, Pause, Scene, Turn
from benchmarks.hearing.scoring import HeardTurn, Score, cuts_within_words, score

MS = 16
PAUSE = Pause(Span(2_000 * MS, 2_500 * MS), "words")
FIRST = Turn(Span(1_000 * MS, 4_000 * MS), (PAUSE,))
SECOND = Turn(Span(7_000 * MS, 8_000 * MS), ())


def heard(audio_start_ms, start_decided_ms, speech_end_ms, decided_ms):
    return HeardTurn(
        *(ms * MS for ms in (audio_start_ms, start_decided_ms, speech_end_ms, decided_ms))
    )


def scored(*turns, truth=(FIRST, SECOND)):
    return score(Scene(Condition("clean"), "", np.zeros(0, np.int16), turns=truth), turns)


HEARD_FIRST = heard(700, 1_200, 4_050, 4_750)
HEARD_SECOND = heard(6_700, 7_100, 8_020, 8_720)


def test_turns_heard_as_they_were_said():
    assert scored(HEARD_FIRST, HEARD_SECOND) == Score(
        turns=2, word_pauses=1, start_delays_ms=(200, 100), end_delays_ms=(750, 720)
    )


def test_missed():
    assert scored(HEARD_FIRST) == Score(
        turns=2, missed=1, word_pauses=1, start_delays_ms=(200,), end_delays_ms=(750,)
    )


def test_cut_in_two_in_the_pause():
    before, after = heard(700, 1_200, 2_000, 2_400), heard(2_300, 2_700, 4_050, 4_750)
    assert scored(before, after, HEARD_SECOND) == Score(
        turns=2,
        cut=1,
        word_pauses=1,
        word_pauses_cut=1,
        start_delays_ms=(200, 100),
        end_delays_ms=(720,),
    )


def test_merged():
    both = heard(700, 1_200, 8_020, 8_720)
    assert scored(both) == Score(
        turns=2, merged=1, word_pauses=1, start_delays_ms=(200,), end_delays_ms=(4_720,)
    )


def test_false_in_silence_or_when_it_began_before_anybody_spoke():
    noise = heard(4_800, 5_000, 5_100, 5_800)
    early = heard(6_000, 6_500, 8_020, 8_720)
    assert scored(HEARD_FIRST, noise, early) == Score(
        turns=2, false=2, word_pauses=1, start_delays_ms=(200,), end_delays_ms=(750, 720)
    )


@pytest.mark.parametrize(("audio_start_ms", "clipped"), [(1_020, 0), (1_021, 1)])
def test_an_onset_is_clipped_from_20_ms_on(audio_start_ms, clipped):
    result = scored(heard(audio_start_ms, 1_200, 4_050, 4_750), truth=(FIRST,))
    assert result.clipped == clipped


def test_a_turn_that_ends_before_its_end_was_not_waited_for():
    assert scored(heard(700, 1_200, 3_000, 3_900), truth=(FIRST,)).end_delays_ms == ()


def test_a_short_word_may_be_noticed_after_its_end():
    word = Turn(Span(1_000 * MS, 1_100 * MS), ())
    assert scored(heard(700, 1_210, 1_220, 1_900), truth=(word,)).missed == 0


def test_pauses_are_told_apart_by_what_comes_before_them():
    pauses = (PAUSE, Pause(Span(3_000 * MS, 3_400 * MS), "sentence"))
    turn = Turn(FIRST.span, pauses)
    result = scored(
        heard(700, 1_200, 3_000, 3_300), heard(3_200, 3_500, 4_050, 4_750), truth=(turn,)
    )
    assert (result.word_pauses, result.word_pauses_cut) == (1, 0)
    assert (result.sentence_pauses, result.sentence_pauses_cut) == (1, 1)
    assert (result.pauses, result.pauses_cut) == (2, 1)


def test_scores_add_up():
    total = scored(HEARD_FIRST) + scored(HEARD_FIRST, HEARD_SECOND)
    assert total == Score(
        turns=4,
        missed=1,
        word_pauses=2,
        start_delays_ms=(200, 200, 100),
        end_delays_ms=(750, 750, 720),
    )


def test_cuts_within_words():
    gaps = [Span(100, 200), Span(400, 500)]
    assert cuts_within_words(gaps, [99, 100, 199, 200, 450, 600]) == 3


@given(
    st.lists(st.integers(300, 2_000), min_size=1, max_size=5),
    st.lists(st.integers(200, 1_500), min_size=5, max_size=5),
)
def test_labels_find_the_speech_that_was_put_there(speech_ms, gaps_ms):
    rng = np.random.default_rng(0)
    parts, truth, at = [], [], 0
    for speech, gap in zip(speech_ms, gaps_ms, strict=False):
        parts += [np.zeros(gap * MS), rng.normal(0, 0.1, speech * MS)]
        truth.append(Span(at + gap * MS, at + (gap + speech) * MS))
        at = truth[-1].end
    parts.append(np.zeros(200 * MS))
    found = speech_spans(np.concatenate(parts).astype(np.float32))
    assert len(found) == len(truth)
    for label, said in zip(found, truth, strict=True):
        assert abs(label.start - said.start) <= 10 * MS
        assert abs(label.end - said.end) <= 10 * MS


def test_a_gap_under_150_ms_is_part_of_the_speech():
    rng = np.random.default_rng(0)
    for gap_ms, count in [(140, 1), (160, 2)]:
        parts = [rng.normal(0, 0.1, 6_400), np.zeros(gap_ms * MS), rng.normal(0, 0.1, 6_400)]
        assert len(speech_spans(np.concatenate(parts).astype(np.float32))) == count
