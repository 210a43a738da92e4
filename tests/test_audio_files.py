"""Audio files, made here by PyAV in every format, and what may be wrong with them."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_io.errors import AudioFormatError
from audio_io.files import read_audio
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from tests.phone_codecs import amr_wb, gsm_wav
from tests.speech import at_rate, prompt


def chirp(seconds: float, rate_hz: int = SAMPLE_RATE_HZ) -> Int16Array:
    """200 to 3000 Hz at half of full scale: no stretch of it is like another."""
    at_s = np.arange(round(rate_hz * seconds)) / rate_hz
    phase = 2 * np.pi * (200 * at_s + 2800 / seconds * at_s**2 / 2)
    return np.rint(16_384 * np.sin(phase)).astype(np.int16)


def encoded(
    seconds: float, container: str, codec: str, rate_hz: int, layout: str = "mono"
) -> bytes:
    """A file of that kind with the chirp, the same in every channel."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        context = stream.codec_context
        # FFmpeg's own encoder of Vorbis is called experimental.
        context.options = {"strict": "experimental"}
        context.open()
        frame = av.AudioFrame.from_ndarray(chirp(seconds, rate_hz)[None, :], "s16", "mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(context.format, layout, rate_hz, context.frame_size)
        pieces = [*resampler.resample(frame), *resampler.resample(None)]
        for piece in (*(piece for piece in pieces if piece), None):
            output.mux(stream.encode(piece))
    return file.getvalue()


def likeness(samples: Int16Array, reference: Int16Array) -> float:
    """The normalised correlation at the best of all delays, 1 at most."""
    size = len(samples) + len(reference)
    spectra = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(reference, size))
    norms = np.linalg.norm(samples) * np.linalg.norm(reference.astype(float))
    return float(np.fft.irfft(spectra, size).max() / norms)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "layout"),
    [
        ("wav", "pcm_s16le", 48_000, "mono"),
        ("wav", "pcm_s16le", 44_100, "stereo"),
        ("wav", "pcm_f32le", 96_000, "5.1"),
        ("wav", "pcm_mulaw", 8_000, "mono"),
        ("wav", "adpcm_ms", 22_050, "mono"),
        ("aiff", "pcm_s16be", 32_000, "stereo"),
        ("flac", "flac", 44_100, "stereo"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("mp3", "libmp3lame", 16_000, "mono"),
        ("ogg", "libopus", 48_000, "stereo"),
        ("webm", "libopus", 48_000, "mono"),
        ("ipod", "aac", 44_100, "mono"),
        ("adts", "aac", 48_000, "stereo"),
        ("mpegts", "mp2", 48_000, "stereo"),
        ("amr", "libopencore_amrnb", 8_000, "mono"),
        ("3gp", "libopencore_amrnb", 8_000, "mono"),
        ("3gp", "aac", 32_000, "stereo"),
        ("ogg", "vorbis", 44_100, "stereo"),
        ("ipod", "alac", 44_100, "stereo"),
    ],
)
def test_formats(container: str, codec: str, rate_hz: int, layout: str) -> None:
    samples = read_audio(encoded(1.5, container, codec, rate_hz, layout))
    assert samples.dtype == np.int16 and samples.ndim == 1
    # Encoders add up to two frames of silence around the sound.
    assert 0 <= len(samples) / SAMPLES_PER_MS - 1500 <= 150
    assert likeness(samples, chirp(1.5)) > 0.94


@pytest.mark.parametrize("codec", ["AMR-WB", "wav with GSM"])
def test_what_telephones_send(codec: str) -> None:
    spoken = prompt("hello-world")
    file = amr_wb(spoken) if codec == "AMR-WB" else gsm_wav(at_rate(spoken, 8000))
    samples = read_audio(file)
    # Of the last frame, what isn't sound is silence.
    assert 0 <= len(samples) - len(spoken) < 640
    assert likeness(samples, spoken) > 0.93


def test_what_is_already_right_is_not_changed(tmp_path: Path) -> None:
    data = encoded(0.5, "wav", "pcm_s16le", SAMPLE_RATE_HZ)
    file = tmp_path / "right.wav"
    file.write_bytes(data)
    np.testing.assert_array_equal(read_audio(file), chirp(0.5))
    np.testing.assert_array_equal(read_audio(data), chirp(0.5))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("mp4", "aac")]
)
def test_what_has_the_very_length_that_is_taken(container: str, codec: str, rate_hz: int) -> None:
    samples = read_audio(encoded(3, container, codec, rate_hz), max_s=3)
    assert len(samples) == 3 * SAMPLE_RATE_HZ


def test_a_stream_that_changes_its_format() -> None:
    # MP3 files may be put together like this; every frame tells its own rate and channels.
    data = encoded(0.5, "mp3", "libmp3lame", 44_100, "stereo")
    data += encoded(0.5, "mp3", "libmp3lame", 32_000, "mono")
    assert 900 <= len(read_audio(data)) / SAMPLES_PER_MS <= 1150


@pytest.mark.parametrize(
    ("container", "picture_codec", "sound_codec"),
    [("mp4", "mpeg4", "aac"), ("webm", "libvpx", "libopus"), ("avi", "mpeg4", "libmp3lame")],
)
def test_the_sound_of_a_video(container: str, picture_codec: str, sound_codec: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream(picture_codec, rate=25, width=32, height=32)
        video.pix_fmt = "yuv420p"
        audio = output.add_stream(sound_codec, rate=48_000, layout="mono")
        context = audio.codec_context
        context.open()
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        sound = av.AudioFrame.from_ndarray(chirp(1, 48_000)[None, :], "s16", "mono")
        sound.sample_rate = 48_000
        resampler = av.AudioResampler(context.format, "mono", 48_000, context.frame_size)
        pieces = [*resampler.resample(sound), *resampler.resample(None)]
        output.mux(video.encode(picture))
        for piece in pieces:
            if piece:
                output.mux(audio.encode(piece))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    samples = read_audio(file.getvalue())
    assert likeness(samples, chirp(1)) > 0.94


def test_a_video_without_sound() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        video = output.add_stream("mpeg4", rate=25, width=32, height=32)
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        output.mux(video.encode(picture))
        output.mux(video.encode(None))
    with pytest.raises(AudioFormatError, match="The audio holds no sound"):
        read_audio(file.getvalue())


@pytest.mark.parametrize("kind", [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("flac", "flac")])
def test_a_truncated_file_gives_what_there_is(kind: tuple[str, str]) -> None:
    data = encoded(2, *kind, rate_hz=16_000)
    samples = read_audio(data[: len(data) // 2])
    assert 500 <= len(samples) / SAMPLES_PER_MS <= 1500
    assert likeness(samples, chirp(2)[: len(samples)]) > 0.97


def floats_wav(samples: npt.NDArray[np.floating]) -> bytes:
    """A wav file of these samples as they are: floats, (n, channels), at 16 kHz."""
    size, channels = samples.itemsize, samples.shape[1]
    block = size * channels
    rates = (SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * block, block, 8 * size)
    format_ = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, channels, *rates)
    data = struct.pack("<4sI", b"data", samples.nbytes) + samples.tobytes()
    content = b"WAVE" + format_ + data
    return struct.pack("<4sI", b"RIFF", len(content)) + content


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_silence(dtype: type, channels: int, hole: float) -> None:
    sound = np.repeat((chirp(1) / 32_768).astype(dtype)[:, None], channels, axis=1)
    with_holes, with_silence = sound.copy(), sound.copy()
    with_holes[3000:3100, 0] = with_holes[9000, 0] = hole
    with_silence[3000:3100, 0] = with_silence[9000, 0] = 0
    read = read_audio(floats_wav(with_holes))
    np.testing.assert_array_equal(read, read_audio(floats_wav(with_silence)))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"nothing that anybody could hear " * 100, "is no audio file"),
        (b"%PDF-1.7\n" + bytes(2000), "is no audio file"),
        (b"PK\3\4" + bytes(2000), "is no audio file"),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(2000), "is no audio file|holds no sound"),
        (encoded(0.5, "ipod", "aac", 16_000)[:400], "is no audio file"),
        (encoded(0.5, "wav", "pcm_s16le", 16_000)[:78], "holds no sound that can be decoded"),
        (encoded(3.1, "ogg", "libopus", 48_000), "holds more than 3 s"),
        (encoded(0.5, "wav", "pcm_s16le", 192_000), "more than 100000 bytes"),
    ],
)
def test_what_cannot_be_taken(tmp_path: Path, data: bytes, complaint: str) -> None:
    with pytest.raises(AudioFormatError, match=f"^The audio .*{complaint}"):
        read_audio(data, max_s=3, max_bytes=100_000)
    file = tmp_path / "sound"
    file.write_bytes(data)
    with pytest.raises(AudioFormatError, match=f"^{file} .*{complaint}"):
        read_audio(file, max_s=3, max_bytes=100_000)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AudioFormatError, match=r"missing\.wav can't be read: No such file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioFormatError, match="can't be read: Is a directory"):
        read_audio(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_a_file_that_names_others_opens_none(tmp_path: Path, text: str) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded(0.5, "wav", "pcm_s16le", SAMPLE_RATE_HZ))
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(text.format(path=secret))
    with pytest.raises(AudioFormatError, match="is no audio file"):
        read_audio(playlist)


def test_an_hour_of_silence_is_not_unpacked() -> None:
    # 0.7 MB of FLAC, 115 MB of samples.
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        for _ in range(3600 * SAMPLE_RATE_HZ // 4096):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert len(file.getvalue()) < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(AudioFormatError, match="holds more than 30 s"):
            read_audio(file.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


GOOD = [
    encoded(0.3, container, codec, rate_hz)
    for container, codec, rate_hz in (
        ("wav", "pcm_s16le", 16_000),
        ("wav", "adpcm_ms", 16_000),
        ("flac", "flac", 16_000),
        ("mp3", "libmp3lame", 16_000),
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("ipod", "aac", 16_000),
        ("aiff", "pcm_s16be", 16_000),
    )
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=20),
    st.integers(0, 2**20),
)
def test_damage_costs_sound_or_is_refused_and_nothing_else(
    good: bytes, hits: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(good)
    for place, value in hits:
        # Most of the damage where it hurts: in the header.
        damaged[place % min(len(damaged), 200 if place % 2 else len(damaged))] = value
    try:
        samples = read_audio(bytes(damaged[: cut % len(damaged) or None]))
    except AudioFormatError:
        return
    assert 0 < len(samples) <= 31 * SAMPLE_RATE_HZ
