"""Audio files of any kind to 16 kHz mono, within limits, through PyAV (FFmpeg)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path

import av
import numpy as np
from av import AudioFrame, CodecContext
from av.container import InputContainer

from audio_io.errors import AudioFormatError
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.resampling import Resampler

MAX_S = 30.0
"""The models take no more audio at once."""
PADDING_SAMPLES = 2048
"""Lossy encoders fill up their last frame with silence: AAC's have 1024 samples, and two may be
padding. So much of what is too long is cut off."""
MAX_BYTES = 10 * 2**20
"""What hosted models take; 30 s of the PCM of CDs are 5 MB."""

# FFmpeg's names of what it may take a file for. It also knows playlists and session descriptions,
# and would open the files and addresses that those name: none of these.
_FORMATS = (
    "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,gsm,matroska,mov,mp3,mpegts,ogg,voc,w64,wav"
)

_FLOATS = {"flt": np.float32, "dbl": np.float64}


def read_audio(
    source: Path | bytes,
    *,
    name: str = "The audio",
    max_s: float = MAX_S,
    max_bytes: int = MAX_BYTES,
) -> Int16Array:
    """The sound in a file, or in a file's bytes: int16 (n,), 16 kHz mono; n is at least 1.

    Of a video, the first sound track; of a damaged or truncated file, what can be decoded, and
    silence where samples are no numbers. No more is decoded than is taken: an hour of silence is a
    FLAC of 181 kB and 115 MB of samples.

    `name`: what errors call bytes; a file has its own. Raises AudioFormatError.
    """
    if isinstance(source, Path):
        name, data = str(source), _read(source, max_bytes)
    else:
        data = source
    if not data:
        raise AudioFormatError(f"{name} is empty.")
    if len(data) > max_bytes:
        raise AudioFormatError(f"{name} has more than {max_bytes} bytes, the most that is taken.")
    try:
        container = av.open(io.BytesIO(data), "r", options={"format_whitelist": _FORMATS})
    except (av.FFmpegError, ValueError) as error:
        raise AudioFormatError(
            f"{name} is no audio file that can be read. Among those that can are wav, flac, mp3, "
            "ogg, opus, m4a and webm."
        ) from error
    with container:
        if not container.streams.audio:
            raise AudioFormatError(f"{name} holds no sound.")
        # None where FFmpeg doesn't know the codec.
        context: CodecContext | None = container.streams.audio[0].codec_context
        padding = PADDING_SAMPLES if context and context.codec.lossy else 0
        samples = _converted(_up_to(max_s, padding, _decoded(container), name))
        samples = samples[: int(max_s * SAMPLE_RATE_HZ)]
    if not len(samples):
        raise AudioFormatError(f"{name} holds no sound that can be decoded.")
    return samples


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    # The latter where no file can have such a name.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioFormatError(f"{path} can't be read: {reason}.") from error


def _decoded(container: InputContainer) -> Iterator[AudioFrame]:
    """The first sound track, without what is damaged."""
    with suppress(av.FFmpegError):
        for packet in container.demux(container.streams.audio[0]):
            with suppress(av.FFmpegError):
                yield from packet.decode()


def _up_to(
    max_s: float, padding: int, frames: Iterable[AudioFrame], name: str
) -> Iterator[AudioFrame]:
    # Exactly, as many a clip is cut to the very limit.
    seconds = Fraction(0)
    for frame in frames:
        seconds += Fraction(frame.samples, frame.sample_rate)
        if seconds > max_s + Fraction(padding, frame.sample_rate):
            raise AudioFormatError(f"{name} holds more than {max_s:g} s, the most that is taken.")
        yield frame


def _converted(frames: Iterable[AudioFrame]) -> Int16Array:
    """16 kHz mono, int16 (n,), up to where the sound turns into something inconvertible.

    Raises AudioFormatError for a sample rate that can't be used.
    """
    chunks = [np.zeros(0, np.int16)]
    with suppress(av.FFmpegError):
        # Streams may change their format in the middle; converters take but one.
        for (rate_hz, *_), alike in groupby(frames, _format):
            resampler = Resampler(rate_hz)
            to_mono = av.AudioResampler("s16", "mono", rate_hz)
            for mono in chain.from_iterable(map(to_mono.resample, map(_finite, alike))):
                samples = mono.to_ndarray().reshape(-1).astype(np.int16, copy=False)
                chunks.append(resampler.feed(samples))
            chunks.append(resampler.flush())
    return np.concatenate(chunks)


def _finite(frame: AudioFrame) -> AudioFrame:
    """The same frame, silent where its samples are infinite or no numbers.

    Converters would make full-scale clicks of them, and the channels beside take them over.
    """
    if (dtype := _FLOATS.get(frame.format.packed.name)) is not None:
        for plane in frame.planes:
            samples = np.frombuffer(memoryview(plane), dtype)
            samples[~np.isfinite(samples)] = 0
    return frame


def _format(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
