"""Resampling: a stream is the same as the whole at once."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_io.errors import AudioFormatError
from audio_io.pcm import SAMPLE_RATE_HZ, level_dbfs
from audio_io.resampling import Resampler
from tests.speech import at_rate, in_chunks, phrase, silence

RATES = [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000]


def streamed(chunks, source_rate_hz):
    resampler = Resampler(source_rate_hz)
    return np.concatenate([*(resampler.feed(chunk) for chunk in chunks), resampler.flush()])


def at_once(samples, source_rate_hz):
    whole = soxr.resample(samples.astype(np.float32), source_rate_hz, SAMPLE_RATE_HZ, quality="LQ")
    return np.clip(np.rint(whole), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("rate_hz", RATES)
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 5_000), min_size=1, max_size=20).filter(any))
def test_a_stream_equals_the_whole_at_once(rate_hz, sizes):
    voice = at_rate(phrase("Front_Center"), rate_hz)
    np.testing.assert_array_equal(
        streamed(in_chunks(voice, sizes), rate_hz), at_once(voice, rate_hz)
    )


@pytest.mark.parametrize("rate_hz", RATES)
def test_what_was_flushed_leaves_nothing_behind(rate_hz):
    resampler = Resampler(rate_hz)
    voice = at_rate(phrase("Side_Left"), rate_hz)
    first, second = (np.concatenate([resampler.feed(voice), resampler.flush()]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(resampler.flush()) == 0


def test_16_khz_mono_passes_untouched_and_uncopied():
    voice = phrase("Rear_Left")
    resampler = Resampler(16_000)
    assert resampler.feed(voice) is voice
    assert len(resampler.flush()) == 0


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
def test_channels_are_averaged(rate_hz):
    voice = at_rate(phrase("Front_Left"), rate_hz)
    stereo = np.stack([voice, np.zeros_like(voice)], axis=1)
    half = streamed([stereo], rate_hz)
    assert len(half) == len(streamed([voice], rate_hz))
    assert level_dbfs(half) == pytest.approx(level_dbfs(phrase("Front_Left")) - 6.02, abs=0.1)

    # Added up as int16, two loud channels would overflow.
    loud = np.full((rate_hz // 10, 2), 30_000, dtype=np.int16)
    middle = streamed([loud], rate_hz)[400:-400]
    assert (middle.min(), middle.max()) == (30_000, 30_000)


def test_channels_may_change_within_a_stream():
    voice = at_rate(phrase("Front_Left"), 48_000)
    doubled = np.stack([voice, voice], axis=1)
    mixed = streamed([voice[:9_999], doubled[9_999:20_000], voice[20_000:]], 48_000)
    np.testing.assert_array_equal(mixed, streamed([voice], 48_000))


def test_an_overshoot_is_clipped_and_does_not_wrap():
    square = np.repeat(np.tile(np.array([32767, -32768], np.int16), 200), 240)
    out = streamed([square], 48_000)
    middles = out[40::80]
    assert (np.sign(middles) == np.tile([1, -1], 200)).all()


@pytest.mark.parametrize("rate_hz", RATES)
def test_silence_stays_digital_silence(rate_hz):
    assert not streamed([at_rate(silence(300), rate_hz)], rate_hz).any()


@pytest.mark.parametrize("rate_hz", [-1, 0, 7_999, 192_001])
def test_a_rate_out_of_range_is_an_error_that_names_the_range(rate_hz):
    with pytest.raises(AudioFormatError, match=f"{rate_hz} Hz can't be used; 8000 to 192000 Hz"):
        Resampler(rate_hz)
