"""Where long speech is cut."""

import numpy as np
import pytest

from audio_io.cutting import quietest_sample
from audio_io.pcm import level_dbfs
from tests.speech import join, noise_floor, prompt, silence


def test_the_cut_is_in_the_quietest_60_ms_of_the_six_windows_least_likely_speech():
    samples = np.full(30 * 512, 100, np.int16)
    samples[9 * 512 + 300 :][:960] = 1
    samples[2 * 512 + 40 :][:960] = 0  # quieter still, but within speech
    probabilities = [0.9] * 30
    probabilities[7:13] = [0.5, 0.6, 0.5] * 2
    probabilities[20:22] = [0.0, 0.0]  # the closure of a consonant
    assert quietest_sample(samples, probabilities) == 9 * 512 + 300 + 480


def test_of_windows_as_likely_speech_those_with_the_least_energy_count():
    samples = np.full(20 * 512, 1_000, np.int16)
    samples[11 * 512 : 17 * 512] = 900
    samples[5 * 512 : 5 * 512 + 400] = 0
    assert 11 * 512 <= quietest_sample(samples, [1.0, 0.999] * 10) < 17 * 512


def test_squares_of_the_loudest_samples_do_not_overflow():
    samples = np.full(7 * 512, -32768, np.int16)
    samples[700:1660] = -32767
    assert quietest_sample(samples, [1.0] * 7) == 1180


@pytest.mark.parametrize("first", ["vm-goodbye", "hello-world", "conf-getpin"])
def test_by_energy_a_real_voice_is_cut_between_two_sentences(first):
    voice = noise_floor(join(prompt(first), silence(150), prompt("vm-sorry")), -70)
    voice = voice[: len(voice) // 512 * 512]
    at = quietest_sample(voice, [0.0] * (len(voice) // 512))
    assert level_dbfs(voice[at - 80 : at + 80]) < -60
