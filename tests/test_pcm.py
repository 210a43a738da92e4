"""Raw PCM."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_io.errors import AudioFormatError
from audio_io.pcm import (
    SILENCE_DBFS,
    alaw_from_bytes,
    level_dbfs,
    mulaw_from_bytes,
    pcm16_from_bytes,
    to_float32,
)
from tests.speech import noise_floor, phrase, silence


def test_bytes_are_little_endian_whatever_the_machine():
    samples = pcm16_from_bytes(b"\x01\x00\x00\x80\xff\x7f\xff\xff")
    assert samples.tolist() == [1, -32768, 32767, -1]
    assert samples.dtype == np.int16


def test_no_bytes_are_no_samples():
    assert pcm16_from_bytes(b"").tolist() == []


@given(st.binary().filter(lambda data: len(data) % 2 == 1))
def test_an_odd_number_of_bytes_is_an_error_that_says_so(data):
    with pytest.raises(AudioFormatError, match=rf"{len(data)} bytes, an odd number"):
        pcm16_from_bytes(data)


def test_floats_span_minus_one_to_one_and_are_writable():
    samples = np.array([[-32768, 0], [16384, 32767]], dtype=np.int16)
    floats = to_float32(samples)
    assert floats.tolist() == [[-1.0, 0.0], [0.5, 32767 / 32768]]
    assert floats.dtype == np.float32
    assert floats.flags.writeable


@pytest.mark.parametrize(
    ("samples", "dbfs"),
    [
        (np.full(160, -32768, np.int16), 0.0),
        (np.full(160, 16384, np.int16), -6.02),
        ((32767 * np.sin(np.arange(16_000) * 0.1)).astype(np.int16), -3.01),
        (silence(20), SILENCE_DBFS),
        (np.array([], np.int16), SILENCE_DBFS),
        (np.eye(1, 30_000, dtype=np.int16)[0], SILENCE_DBFS),
    ],
    ids=["full scale", "half", "sine", "silence", "nothing", "one click in two seconds"],
)
def test_levels(samples, dbfs):
    assert level_dbfs(samples) == pytest.approx(dbfs, abs=0.01)


def test_a_voice_is_louder_than_the_room():
    room = noise_floor(silence(500), -50)
    assert level_dbfs(room) == pytest.approx(-50, abs=0.5)
    assert -35 < level_dbfs(phrase("Front_Center")) < -10


@pytest.mark.parametrize(
    ("codec", "decode"), [("pcm_mulaw", mulaw_from_bytes), ("pcm_alaw", alaw_from_bytes)]
)
def test_every_code_of_g711_is_decoded_as_ffmpeg_does_it(codec, decode):
    codes = bytes(range(256))
    decoder = av.AudioCodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(codes))
    assert decode(codes).tolist() == frame.to_ndarray()[0].tolist()
    assert decode(b"").dtype == np.int16
