"""The benchmark's table and picture, from sums that were never measured."""

from xml.etree import ElementTree

from benchmarks.hearing.measure import HOLDS_MS, VADS, Measured, hold_name
from benchmarks.hearing.picture import picture
from benchmarks.hearing.report import report
from benchmarks.hearing.rivals import RIVALS
from benchmarks.hearing.scenes import SOUND_KINDS, Condition
from benchmarks.hearing.scoring import Score

SCORE = Score(turns=10, word_pauses=10, start_delays_ms=(100,), end_delays_ms=(700, 900))


def measured(**changed):
    sums = Measured(streams=3, audio_s=120)
    for name in (*VADS, *RIVALS):
        sums.short_answers[name] = SCORE
    for name in (*VADS, *RIVALS, *map(hold_name, HOLDS_MS)):
        sums.audible[name] = SCORE
        for kind in SOUND_KINDS:
            sums.by_sound[name][kind] = Score(sounds=4, false=1)
    for vad in VADS:
        sums.by_condition[vad][Condition("pink", 5)] = SCORE
        sums.cuts[vad] = 1, 8
        sums.cpu_ms_per_s[vad] = 2.0, 0.25
    sums.audible.update(changed)
    return sums


def test_every_hearer_has_its_line():
    text = report(measured())
    lines = [line.strip() for line in text.splitlines()]
    for name in (*VADS, *RIVALS, *map(hold_name, HOLDS_MS), "pink, 5 dB"):
        assert any(line.startswith(name) and "800" in line for line in lines), name
    assert "1 of 8 (12.5%)" in text


def test_the_picture_is_an_svg_that_says_which_rivals_lose_turns():
    lossy = Score(turns=10, merged=3, word_pauses=4, word_pauses_cut=1, end_delays_ms=(500,))
    root = ElementTree.fromstring(picture(measured(**{"plain webrtcvad": lossy})))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(RIVALS) - {"plain webrtcvad"} <= set(texts)
    assert "plain webrtcvad, 30% lost" in texts
    assert "ours: 700 ms" in texts
