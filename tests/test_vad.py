"""Voice activity detection on real voices."""

import numpy as np
import pytest

from audio_io.silero import WINDOW_SAMPLES, SileroVad
from audio_io.vad import CascadeVad, WebRtcVad, make_detector
from tests.speech import join, noise_floor, phrase, prompt, silence


@pytest.fixture(params=["cascade", "silero", "webrtc"])
def detector(request):
    return make_detector(request.param)


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
    said = [prompt("vm-goodbye"), silence(3_000), phrase("Front_Center"), silence(1_500)]
    stream = noise_floor(join(silence(992), *said, *said), -60)
    silero, cascade = np.array(heard(SileroVad(), stream)), np.array(heard(CascadeVad(), stream))
    assert np.mean((silero >= 0.5) != (cascade >= 0.5)) < 0.01
    assert np.mean(np.abs(silero - cascade) < 0.05) > 0.97
    assert np.mean(cascade == 0) > 0.3  # where Silero wasn't asked
