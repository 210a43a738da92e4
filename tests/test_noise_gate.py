"""The gate that opens for what is louder than the room."""

import numpy as np
import pytest

from audio_io.noise_gate import NoiseGate
from tests.speech import join, noise_floor, prompt, silence

WINDOW = 512


def opened(samples):
    gate = NoiseGate()
    ends = range(WINDOW, len(samples) + 1, WINDOW)
    return np.array([gate.hear(samples[end - WINDOW : end]) for end in ends])


def tone(hz, dbfs, duration_ms):
    at = np.arange(duration_ms * 16) / 16_000
    return (np.sin(2 * np.pi * hz * at) * 32_768 * 2**0.5 * 10 ** (dbfs / 20)).astype(np.int16)


@pytest.mark.parametrize("dbfs", [-90, -60, -40, -20])
def test_stays_closed_in_steady_noise(dbfs):
    assert np.mean(opened(noise_floor(silence(20_000), dbfs))[10:]) < 0.01


@pytest.mark.parametrize("snr_db", [5, 20])
def test_opens_for_a_voice_and_closes_behind_it(snr_db):
    voice = prompt("vm-goodbye")
    level_dbfs = 20 * np.log10(np.sqrt(np.mean(voice.astype(float) ** 2)) / 32_768)
    audio = join(silence(4_000), voice, silence(2_000))
    is_open = opened(noise_floor(audio, level_dbfs - snr_db))
    spoken = slice(4_000 // 32 + 4, (4_000 + len(voice) // 16) // 32 - 4)
    assert not is_open[10 : 4_000 // 32].any()
    assert is_open[spoken].mean() > 0.7
    assert not is_open[-30:].any()


def test_opens_in_the_band_of_voices_alone():
    for hz, expected in [(50, False), (120, False), (500, True), (2_500, True), (6_000, False)]:
        audio = noise_floor(join(silence(4_000), tone(hz, -40, 500)), -60)
        assert opened(audio)[-8:].all() == expected, hz


def test_holds_256_ms_and_takes_what_lasts_3_s_for_the_room():
    audio = noise_floor(join(silence(3_200), tone(500, -30, 6_400), silence(3_200)), -60)
    is_open = opened(audio)
    first, last = 100, int(np.flatnonzero(is_open)[-1])
    assert not is_open[10:first].any()
    assert is_open[first : first + 90].all()
    assert last == pytest.approx(first + 94 + 8, abs=4)


def test_nothing_below_minus_62_dbfs_opens_it():
    assert not opened(join(silence(4_000), tone(500, -64, 500))).any()
    assert opened(join(silence(4_000), tone(500, -58, 500))).any()
