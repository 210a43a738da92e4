"""Test vocabulary: real human speech, and what it takes to put it together.

The voices come from Debian packages, are read where those put them, and are never committed.
A test that asks for one that isn't installed is skipped, with the command that brings it.
All audio is int16 (n,), 16 kHz mono, cached and read-only.
"""

from __future__ import annotations

import gzip
import wave
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PHRASES = Path("/usr/share/sounds/alsa")


@cache
def prompt(name: str) -> Int16Array:
    """A telephone prompt, one woman's voice: `hello-world`, `digits/7`, `demo-congrats`."""
    path = _installed(PROMPTS / f"{name}.g722", package="asterisk-core-sounds-en-g722")
    with av.open(str(path), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return _frozen(np.concatenate(frames))


def transcript(name: str) -> str:
    """The words of `prompt(name)`; in brackets where it is a sound or silence and no speech."""
    return _transcripts()[name]


def prompt_names() -> list[str]:
    """Every prompt that is speech and has a transcript, sorted."""
    return sorted(
        name
        for name, text in _transcripts().items()
        if text[0] not in "[(" and (PROMPTS / f"{name}.g722").exists()
    )


@cache
def phrase(name: str) -> Int16Array:
    """A spoken loudspeaker position, another woman's voice: `Front_Center`, `Side_Left`."""
    path = _installed(PHRASES / f"{name}.wav", package="alsa-utils")
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return _frozen(_resampled(samples, file.getframerate(), SAMPLE_RATE_HZ))


def silence(duration_ms: int) -> Int16Array:
    """Digital silence."""
    return np.zeros(duration_ms * SAMPLES_PER_MS, dtype=np.int16)


def join(*parts: Int16Array) -> Int16Array:
    """The parts one after the other."""
    return np.concatenate(parts) if parts else silence(0)


def noise_floor(samples: Int16Array, dbfs: float) -> Int16Array:
    """`samples` with white noise of that RMS level added; the same noise every time."""
    noise = np.random.default_rng(0).normal(0, 32_768 * 10 ** (dbfs / 20), len(samples))
    return np.clip(samples + noise, -32_768, 32_767).astype(np.int16)


def in_chunks(samples: Int16Array, sizes: int | Iterable[int]) -> Iterator[Int16Array]:
    """`samples` cut into chunks of these sizes, over and over; the last may be shorter."""
    start = 0
    for size in cycle([sizes] if isinstance(sizes, int) else sizes):
        if start >= len(samples):
            return
        yield samples[start : start + size]
        start += size


def at_rate(samples: Int16Array, sample_rate_hz: int) -> Int16Array:
    """The same sound at another rate, as a client would send it."""
    return _resampled(samples, SAMPLE_RATE_HZ, sample_rate_hz)


def write_wav(path: Path, samples: Int16Array, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """Write `samples` as they are, 16-bit mono, and return the path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@cache
def _transcripts() -> dict[str, str]:
    path = _installed(TRANSCRIPTS, package="asterisk-core-sounds-en")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    entries = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, text in entries}


def _installed(path: Path, package: str) -> Path:
    if not path.exists():
        pytest.skip(
            f"{path} is missing; it comes with `apt-get install {package}`",
            allow_module_level=True,
        )
    return path


def _resampled(samples: Int16Array, from_hz: int, to_hz: int) -> Int16Array:
    # In floats, since soxr adds dither to integers.
    exact = soxr.resample(samples.astype(np.float32), from_hz, to_hz)
    return np.clip(np.rint(exact), -32_768, 32_767).astype(np.int16)


def _frozen(samples: Int16Array) -> Int16Array:
    samples.flags.writeable = False
    return samples
