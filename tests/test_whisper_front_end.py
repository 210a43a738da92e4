"""Spectrograms are those of the library's own extractor, and may end where the sound does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from assistant.engines.transformers.models.whisper import (
    WINDOW_S,
    frames_in_use,
    log_mel,
    short_log_mel,
)
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests import speech

CPU = torch.device("cpu")
MOST = WINDOW_S * SAMPLE_RATE_HZ
SPEECH = np.resize(speech.prompt("demo-congrats"), MOST)
NOISE = np.random.default_rng(0).normal(0, 9000, MOST).clip(-32_768, 32_767).astype(np.int16)
LENGTHS = st.one_of(st.integers(1, 40_000), st.integers(1, MOST), st.integers(MOST - 400, MOST))
SOUNDS = st.builds(
    lambda sound, length: sound[:length],
    st.sampled_from([SPEECH, NOISE, np.zeros(MOST, np.int16)]),
    LENGTHS,
)
# Sums in another order; values are within 2.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[(80, 30), (128, 30), (128, 300)])
def extractor(request: pytest.FixtureRequest) -> WhisperFeatureExtractor:
    bins, chunk_s = request.param
    return WhisperFeatureExtractor(feature_size=bins, chunk_length=chunk_s)


@settings(max_examples=15, deadline=None)
@given(SOUNDS)
def test_spectrograms_are_the_library_s(
    extractor: WhisperFeatureExtractor, samples: Int16Array
) -> None:
    expected = extractor(
        samples.astype(np.float32) / 32_768,
        sampling_rate=SAMPLE_RATE_HZ,
        padding="max_length",
        max_length=MOST,
        return_attention_mask=True,
        return_tensors="pt",
    )
    spectrogram, in_use = log_mel(extractor, samples, CPU)
    assert (spectrogram - expected["input_features"]).abs().max() < TOLERANCE
    assert torch.equal(in_use, expected["attention_mask"].to(in_use.dtype))
    short = short_log_mel(extractor, samples, CPU)
    frames = min(frames_in_use(extractor, len(samples)) + 2, spectrogram.shape[-1])
    assert short.shape == (1, spectrogram.shape[1], frames)
    assert (short - spectrogram[..., :frames]).abs().max() < TOLERANCE
