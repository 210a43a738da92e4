"""Where long speech is cut."""

import numpy as np
import pytest

from audio_io.cutting import quietest_sample
from audio_io.pcm import level_dbfs
from tests.speech import join, noise_floor, prompt, silence


def test_the_cut_is_in_the_quietest_10_ms_of_the_three_windows_least_likely_speech():
    samples = np.full(20 * 512, 100, np.int16)
    samples[8 * 512 + 300 :][:160] = 1
    samples[2 * 512 + 40 :][:160] = 0  # quieter still, but within speech
    probabilities = [0.9] * 20
    probabilities[7:10] = [0.5, 0.6, 0.5]
    probabilities[15] = 0.0  # the closure of a consonant
    assert quietest_sample(samples, probabilities) == 8 * 512 + 300 + 80


def test_of_windows_as_likely_speech_those_with_the_least_energy_count():
    samples = np.full(20 * 512, 1_000, np.int16)
    samples[11 * 512 : 14 * 512] = 900
    samples[5 * 512 : 5 * 512 + 200] = 0
    assert 11 * 512 <= quietest_sample(samples, [1.0, 0.999] * 10) < 14 * 512


def test_squares_of_the_loudest_samples_do_not_overflow():
    samples = np.full(4 * 512, -32768, np.int16)
    samples[700:860] = -32767
    assert quietest_sample(samples, [1.0] * 4) == 780


@pytest.mark.parametrize("first", ["vm-goodbye", "hello-world", "conf-getpin"])
def test_by_energy_a_real_voice_is_cut_between_two_sentences(first):
    voice = noise_floor(join(prompt(first), silence(150), prompt("vm-sorry")), -70)
    voice = voice[: len(voice) // 512 * 512]
    at = quietest_sample(voice, [0.0] * (len(voice) // 512))
    assert level_dbfs(voice[at - 80 : at + 80]) < -60
