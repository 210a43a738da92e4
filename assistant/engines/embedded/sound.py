"""What can honestly be said of a sound without understanding it. Pure; numpy only.

Every figure is a plain signal measure that tests hold against signals of known level, noise,
pitch and rate, and against human speech.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, SILENCE_DBFS, Int16Array, to_float32

FRAME_SAMPLES = 20 * SAMPLES_PER_MS
HOP_SAMPLES = 10 * SAMPLES_PER_MS
HOPS_PER_S = SAMPLE_RATE_HZ // HOP_SAMPLES

SILENT_BELOW_DBFS = -65.0
"""What stays below is silence to a listener: a quiet room at an ordinary microphone's gain."""

LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60, 500
"""From a bass to a child."""

PITCH_WINDOW_SAMPLES = 48 * SAMPLES_PER_MS
"""Three periods of the lowest pitch."""

BLOCK_HOPS = 10 * HOPS_PER_S

VOICED_FROM = 0.6
"""Autocorrelation at the pitch's period from which a frame counts as voiced; noise stays below."""

LEAST_VOICED = 0.15
"""Share of voiced frames from which there is a voice, which is voiced for half its time."""

_Levels = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sound:
    """The measures of one recording."""

    duration_s: float
    level_dbfs: float
    """RMS of the parts that stand out from the background; of everything where nothing does."""
    noise_dbfs: float | None
    """RMS of the background between them; None where nothing stands out."""
    pitch_hz: float | None
    """Median fundamental frequency; None where hardly anything is voiced."""
    syllables_per_s: float | None
    """Peaks of loudness, as syllables make them, per second of speech; None without a voice."""
    clipped: float
    """Share of the samples cut off at full scale, from 0 to 1."""

    @property
    def silent(self) -> bool:
        return self.level_dbfs < SILENT_BELOW_DBFS

    @property
    def snr_db(self) -> float | None:
        """How far the foreground lies above the background."""
        if self.noise_dbfs is None:
            return None
        power = 10 ** (self.level_dbfs / 10) - 10 ** (self.noise_dbfs / 10)
        return 10 * math.log10(power) - self.noise_dbfs


def measure(samples: Int16Array) -> Sound:
    """Measure `samples` (int16 (n,), 16 kHz mono). 30 s take some 0.1 s."""
    audio = to_float32(samples)
    levels = _levels_dbfs(audio)
    active, noise_dbfs = _foreground(levels)
    level_dbfs = _mean_dbfs(levels[active])
    pitches = _pitches_hz(audio, active)
    voiced = np.isfinite(pitches)
    has_voice = (
        level_dbfs >= SILENT_BELOW_DBFS
        and np.count_nonzero(voiced) >= LEAST_VOICED * np.count_nonzero(active)
        and np.count_nonzero(voiced) >= HOPS_PER_S // 10
    )
    return Sound(
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        level_dbfs=level_dbfs,
        noise_dbfs=noise_dbfs,
        pitch_hz=float(np.median(pitches[voiced])) if has_voice else None,
        syllables_per_s=_syllables_per_s(levels, active, voiced) if has_voice else None,
        clipped=_clipped(samples),
    )


def foreground_dbfs(samples: Int16Array) -> float:
    """The level that `measure` gives for `samples`, and nothing else."""
    levels = _levels_dbfs(to_float32(samples))
    active, _ = _foreground(levels)
    return _mean_dbfs(levels[active])


def _levels_dbfs(audio: NDArray[np.float32]) -> _Levels:
    """RMS level of every frame: float64 (hops,)."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(audio, dtype=np.float64))))
    starts = np.arange(0, max(1, len(audio) - FRAME_SAMPLES + 1), HOP_SAMPLES)
    ends = np.minimum(starts + FRAME_SAMPLES, len(audio))
    power = np.maximum(energy[ends] - energy[starts], 0) / np.maximum(ends - starts, 1)
    floor = 10 ** (SILENCE_DBFS / 10)
    return np.asarray(10 * np.log10(np.maximum(power, floor)))


def _mean_dbfs(levels: _Levels) -> float:
    """The level of the mean power, not the mean of the levels."""
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))


def _foreground(levels: _Levels) -> tuple[_Flags, float | None]:
    """Which frames stand out, and the level of the others' background if any do."""
    quiet, loud = np.percentile(levels, (10, 95))
    # Frames of steady noise scatter by some 0.4 dB, and slow noises by a few.
    if loud - quiet < 6:
        return np.ones(len(levels), dtype=bool), None
    # 25 dB below its loudest vowels lie the weakest sounds of speech.
    active = levels > max(quiet + 6, loud - 25)
    return active, _mean_dbfs(levels[levels <= quiet + 3])


def _pitches_hz(audio: NDArray[np.float32], active: _Flags) -> NDArray[np.float64]:
    """The fundamental frequency around each active frame, NaN where it is unvoiced: (hops,)."""
    half = PITCH_WINDOW_SAMPLES // 2
    padded = np.pad(audio, (half, half + FRAME_SAMPLES))
    windows = sliding_window_view(padded, PITCH_WINDOW_SAMPLES)[HOP_SAMPLES::HOP_SAMPLES]
    pitches = np.full(len(active), np.nan)
    where = np.flatnonzero(active)
    # In blocks, so that five minutes don't take half a gigabyte.
    for block in np.split(where, range(BLOCK_HOPS, len(where), BLOCK_HOPS)):
        pitches[block] = _window_pitches_hz(windows[block])
    return pitches


def _window_pitches_hz(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """The fundamental frequency of each row, NaN where it is unvoiced.

    Boersma's autocorrelation (1993): divided by the window's own, so that short lags have no
    advantage.
    """
    shortest, longest = SAMPLE_RATE_HZ // HIGHEST_PITCH_HZ, SAMPLE_RATE_HZ // LOWEST_PITCH_HZ
    window = np.hanning(PITCH_WINDOW_SAMPLES)
    correlation = _autocorrelation((frames - frames.mean(1, keepdims=True)) * window)
    own = _autocorrelation(window)
    periodicity = correlation / np.maximum(correlation[:, :1], 1e-12) * (own[0] / own)

    lags = periodicity[:, shortest : longest + 1]
    shorter = periodicity[:, shortest - 1 : longest]
    longer = periodicity[:, shortest + 1 : longest + 2]
    heights = np.where((lags > shorter) & (lags >= longer), lags, 0)
    best = heights.max(axis=1)
    voiced = best >= VOICED_FROM
    # Multiples of the period correlate as well: take the shortest lag that comes near the best.
    index = np.argmax(heights[voiced] >= 0.9 * best[voiced, None], axis=1)

    # The peak of the parabola through the three values around it.
    row = np.flatnonzero(voiced)
    before, at, after = shorter[row, index], lags[row, index], longer[row, index]
    offset = 0.5 * (before - after) / np.minimum(before - 2 * at + after, -1e-9)
    pitches = np.full(len(frames), np.nan)
    pitches[row] = SAMPLE_RATE_HZ / (shortest + index + offset)
    return pitches


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis, for lags up to half a frame."""
    size = 2 ** (2 * frames.shape[-1] - 1).bit_length()  # so that nothing wraps around
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    return np.asarray(np.fft.irfft(power)[..., : frames.shape[-1] // 2])


def _syllables_per_s(levels: _Levels, active: _Flags, voiced: _Flags) -> float:
    """Voiced peaks of loudness with dips of 2 dB between them (de Jong and Wempe 2009).

    On the Asterisk prompts, half of the counts are within a tenth of the dictionary's.
    """
    window = np.hanning(7)  # 50 ms
    smooth = np.convolve(10 ** (levels / 10), window / window.sum(), mode="same")
    peaks = _peaks(10 * np.log10(smooth), dip_db=2.0)
    counted = [active[peak] and voiced[max(0, peak - 2) : peak + 3].any() for peak in peaks]
    steps = np.diff(np.flatnonzero(active))
    # Longer gaps are pauses: they say nothing of how fast somebody speaks.
    hops = 1 + int(np.sum(np.where(steps > HOPS_PER_S // 4, 1, steps)))
    return counted.count(True) * HOPS_PER_S / hops


def _peaks(levels: _Levels, dip_db: float) -> list[int]:
    """Where `levels` peaks, counting only peaks with a dip of at least `dip_db` between them."""
    peaks: list[int] = []
    top: int | None = 0
    lowest = levels[0]
    for index, level in enumerate(levels):
        if top is None:
            lowest = min(lowest, level)
            if level > lowest + dip_db:
                top = index
        elif level > levels[top]:
            top = index
        elif level < levels[top] - dip_db:
            peaks.append(top)
            top, lowest = None, level
    return peaks if top is None else [*peaks, top]


def _clipped(samples: Int16Array) -> float:
    """Share of samples in runs of three or more at full scale; a lone peak is no clipping."""
    at_limit = (samples >= 32_767) | (samples <= -32_767)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], at_limit, [False])).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= 3].sum()) / max(1, len(samples))
