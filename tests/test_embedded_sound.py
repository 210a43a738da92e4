"""The measures of a sound, against signals of which they are known, and human speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.engines.embedded.sound import foreground_dbfs, measure
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.speech import join, noise_floor, prompt, silence

HALF_S = SAMPLE_RATE_HZ // 2


def tone(pitch_hz: float, level_dbfs: float, seconds: float = 1.0) -> Int16Array:
    """A voice-like tone with harmonics, of an RMS level."""
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 6))
    return at_level(wave, level_dbfs)


def noise(level_dbfs: float, seconds: float = 1.0) -> Int16Array:
    wave = np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE_HZ))
    return at_level(wave, level_dbfs)


def at_level(wave: np.ndarray, level_dbfs: float) -> Int16Array:
    wave = wave / np.sqrt(np.mean(wave**2)) * 10 ** (level_dbfs / 20)
    return (wave * 32_767).round().astype(np.int16)


@given(st.floats(80, 400), st.floats(-45, -15))
def test_pitch_and_level_of_a_tone(pitch_hz: float, level_dbfs: float) -> None:
    sound = measure(tone(pitch_hz, level_dbfs))
    assert sound.pitch_hz == pytest.approx(pitch_hz, rel=0.03)
    assert sound.level_dbfs == pytest.approx(level_dbfs, abs=0.5)
    assert sound.duration_s == 1.0
    assert sound.clipped == 0


@given(st.floats(-60, -45), st.floats(15, 30))
def test_noise_between_tones(noise_dbfs: float, snr_db: float) -> None:
    background = noise(noise_dbfs, 2.0).astype(np.int32)
    background[HALF_S : 2 * HALF_S] += tone(150, noise_dbfs + snr_db, 0.5)
    sound = measure(background.astype(np.int16))
    assert sound.noise_dbfs == pytest.approx(noise_dbfs, abs=1.5)
    assert sound.snr_db == pytest.approx(snr_db, abs=2)


def test_noise_alone_is_no_voice() -> None:
    sound = measure(noise(-30))
    assert sound.pitch_hz is None and sound.syllables_per_s is None and sound.noise_dbfs is None
    assert sound.level_dbfs == pytest.approx(-30, abs=0.5)


@pytest.mark.parametrize("per_s", [2, 3, 4, 5])
def test_syllables_are_counted_by_their_peaks(per_s: int) -> None:
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * per_s * time_s)
    syllables = (tone(150, -20, 2.0) * envelope).astype(np.int16)
    assert measure(syllables).syllables_per_s == pytest.approx(per_s, rel=0.2)


def test_silence_and_clipping() -> None:
    assert measure(silence(1000)).silent
    assert measure(noise(-80)).silent
    assert not measure(noise(-50)).silent
    loud = np.clip(tone(150, -6).astype(np.int32) * 3, -32_768, 32_767).astype(np.int16)
    assert 0.1 < measure(loud).clipped < 0.9


def test_a_woman_s_voice() -> None:
    speech = join(silence(300), prompt("demo-congrats"), silence(300))
    sound = measure(noise_floor(speech, -60))
    assert sound.pitch_hz is not None and 150 < sound.pitch_hz < 260
    assert sound.syllables_per_s is not None and 2.5 < sound.syllables_per_s < 6
    assert sound.noise_dbfs == pytest.approx(-60, abs=2)
    assert foreground_dbfs(speech) == pytest.approx(sound.level_dbfs, abs=1)


@given(st.integers(0, 400))
def test_any_length_can_be_measured(n: int) -> None:
    assert measure(np.full(n, 100, np.int16)).duration_s == n / SAMPLE_RATE_HZ
