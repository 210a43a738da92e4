"""What isn't the speaker: steady noises, and sounds that begin and end. Pure; seeded by `rng`.

Everything is float32 (n,), 16 kHz mono. Coughs and music are synthetic, since no package carries
recordings of them: real ones are more varied, so expect a few more mistakes in a real room.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audio_io.pcm import SAMPLE_RATE_HZ, Float32Array

Rng = np.random.Generator
FloatArray = NDArray[np.floating]


def white(count: int, rng: Rng) -> Float32Array:
    return rng.standard_normal(count, dtype=np.float32)


def pink(count: int, rng: Rng) -> Float32Array:
    """3 dB less per octave, from 20 Hz up."""
    return _shaped(count, rng, lambda hz: 1 / np.sqrt(np.maximum(hz, 20)))


def hum(count: int, rng: Rng) -> Float32Array:
    """The mains and its overtones, and the air of a fan."""
    seconds = np.arange(count) / SAMPLE_RATE_HZ
    tones = sum(
        np.sin(2 * np.pi * 50 * n * seconds + rng.uniform(0, 2 * np.pi)) / n for n in range(1, 9)
    )
    air = _shaped(count, rng, lambda hz: 1 / (1 + (hz / 200) ** 2))
    return np.asarray(tones + 0.5 * air / np.std(air), dtype=np.float32)


def click(rng: Rng) -> Float32Array:
    """2 to 5 ms, as of a switch."""
    return _decaying(rng.uniform(0.002, 0.005), rng)


def thump(rng: Rng) -> Float32Array:
    """A door, or a hand on the table: 50 to 110 Hz that die away, and the blow itself."""
    seconds = _seconds(0.4)
    decay_s = rng.uniform(0.04, 0.1)
    body = np.sin(2 * np.pi * rng.uniform(50, 110) * seconds) * np.exp(-seconds / decay_s)
    blow = _decaying(0.015, rng)
    body[: len(blow)] += 0.5 * blow
    return np.asarray(body, dtype=np.float32)


def cough(rng: Rng) -> Float32Array:
    """One to three bursts of air through a throat, with a short voiced end every other time."""
    bursts = []
    for _ in range(rng.integers(1, 4)):
        seconds = _seconds(rng.uniform(0.15, 0.35))
        attack, decay_s = np.minimum(1, seconds / 0.008), rng.uniform(0.04, 0.09)
        centre_hz = rng.uniform(600, 1_400)
        air = _breath(len(seconds), rng, centre_hz)
        burst = air / np.std(air) * attack * np.exp(-seconds / decay_s)
        if rng.random() < 0.5:
            voice = np.sign(np.sin(2 * np.pi * rng.uniform(140, 260) * seconds))
            burst += 0.4 * voice * np.exp(-(((seconds - 0.12) / 0.04) ** 2))
        bursts += [burst, np.zeros(int(rng.uniform(0.05, 0.25) * SAMPLE_RATE_HZ))]
    return np.concatenate(bursts).astype(np.float32)


def typing(rng: Rng) -> Float32Array:
    """2 s of keys, five to nine a second, each going down and up."""
    keys = np.zeros(2 * SAMPLE_RATE_HZ, dtype=np.float32)
    at_s = 0.0
    while (at_s := at_s + rng.exponential(1 / rng.uniform(5, 9))) < 1.8:
        for delay_s, gain in ((0, 1.0), (rng.uniform(0.05, 0.1), 0.5)):
            stroke = gain * rng.uniform(0.5, 1) * _decaying(rng.uniform(0.004, 0.012), rng)
            at = int((at_s + delay_s) * SAMPLE_RATE_HZ)
            keys[at : at + len(stroke)] += stroke[: len(keys) - at]
    return keys


def music(rng: Rng) -> Float32Array:
    """3 s of plucked chords, four notes with overtones each, on a beat."""
    beat_s = rng.uniform(0.3, 0.6)
    played = np.zeros(3 * SAMPLE_RATE_HZ, dtype=np.float32)
    for at in range(0, len(played), int(beat_s * SAMPLE_RATE_HZ)):
        seconds = _seconds((len(played) - at) / SAMPLE_RATE_HZ)
        for note in rng.choice([0, 3, 4, 7, 9, 12, 16], size=4, replace=False):
            hz = 196 * 2 ** (note / 12)
            for overtone in range(1, 6):
                decay = np.exp(-seconds * overtone / 0.5) / overtone
                played[at:] += np.sin(2 * np.pi * hz * overtone * seconds) * decay
    return played


SOUNDS: dict[str, Callable[[Rng], Float32Array]] = {
    "click": click,
    "thump": thump,
    "cough": cough,
    "typing": typing,
    "music": music,
}


def far_away(samples: Float32Array, rng: Rng) -> Float32Array:
    """As it sounds from the far end of a room: 0.4 s of reverberation, and less of the high."""
    seconds = _seconds(0.4)
    echoes = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / 0.4)
    count = len(samples) + len(echoes) - 1
    spectrum = np.fft.rfft(samples, count) * np.fft.rfft(echoes, count)
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    return np.asarray(np.fft.irfft(spectrum / (1 + (hz / 2_500) ** 2), count), dtype=np.float32)


def at_level(samples: Float32Array, dbfs: float) -> Float32Array:
    """The same with that RMS level."""
    return samples * np.float32(10 ** (dbfs / 20) / np.sqrt(np.mean(np.square(samples)) + 1e-20))


def at_peak(samples: Float32Array, dbfs: float) -> Float32Array:
    """The same with that peak, since a click has hardly any RMS level."""
    return samples * np.float32(10 ** (dbfs / 20) / np.max(np.abs(samples)))


def _seconds(duration_s: float) -> FloatArray:
    return np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _breath(count: int, rng: Rng, centre_hz: float) -> Float32Array:
    return _shaped(count, rng, lambda hz: np.exp(-(((hz - centre_hz) / 900) ** 2)) + 0.08)


def _decaying(duration_s: float, rng: Rng) -> Float32Array:
    seconds = _seconds(3 * duration_s)
    noise = rng.standard_normal(len(seconds)) * np.exp(-seconds / duration_s)
    return np.asarray(noise, dtype=np.float32)


def _shaped(count: int, rng: Rng, gain: Callable[[FloatArray], FloatArray]) -> Float32Array:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    return np.asarray(np.fft.irfft(spectrum * gain(hz), count), dtype=np.float32)
