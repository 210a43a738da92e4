"""Where sound may come from: a path, file://, http(s)://, data:, or the standard input."""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from audio_io.downloads import download, is_any, is_public
from audio_io.errors import AudioFormatError
from audio_io.files import MAX_BYTES, read_audio
from audio_io.pcm import SAMPLES_PER_MS, Int16Array
from audio_io.segmenter import MIN_UTTERANCE_MS

STDIN = "-"
_URL = re.compile(r"(https?|file)(?=://)|data:", re.IGNORECASE)
_FILE_NAME = re.compile(r"\S+\.\w{2,4}")


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How much is taken, and from where."""

    max_bytes: int = MAX_BYTES
    """Of a file; of one in base64, of its encoded form."""
    max_s: float = 1800.0
    """Of sound in one file."""
    download_timeout_s: float = 30.0
    private_addresses: bool = False
    """Fetch URLs from this machine and its network too."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The sound of one source."""

    name: str
    """What a person would call it."""
    samples: Int16Array
    """int16 (n,), 16 kHz mono."""


def looks_like_source(text: str) -> bool:
    """Whether `text` names some sound, be it there or not, and isn't a question about it."""
    if text == STDIN or _URL.match(text) or _FILE_NAME.fullmatch(text):
        return True
    try:
        return bool(text.strip()) and Path(text).exists()
    except (OSError, ValueError):
        # Too long for a path, or with characters that none has.
        return False


def read_source(source: str, limits: SourceLimits) -> Recording:
    """The sound of whatever a person at this machine names. Raises AudioFormatError."""
    if source == STDIN:
        if sys.stdin is None:
            raise AudioFormatError("The standard input is closed.")
        # Not `sys.stdin` itself, whose lock would hold up the interpreter's end.
        with open(sys.stdin.fileno(), "rb", closefd=False) as file:
            data = file.read(limits.max_bytes + 1)
        return _recording("The standard input", data, limits)
    if not (url := _URL.match(source)):
        path = Path(source)
    elif url[1] and url[1].lower() == "file":
        path = _path(source)
    else:
        return read_url(source, limits)
    samples = read_audio(path, max_s=limits.max_s, max_bytes=limits.max_bytes)
    # A name may hold bytes that are no text.
    return _long_enough(Recording(path.name.encode(errors="replace").decode(), samples))


def read_url(url: str, limits: SourceLimits) -> Recording:
    """The sound at an address of the web, or in a data: URL; never that of a file here.

    Raises AudioFormatError.
    """
    if url[:5].lower() == "data:":
        head, _, body = url.partition(",")
        if not head.lower().endswith(";base64"):
            raise AudioFormatError("The audio's data: URL must be in base64, as data:;base64,...")
        return read_base64(body, limits)
    data = download(
        url,
        max_bytes=limits.max_bytes,
        timeout_s=limits.download_timeout_s,
        may_reach=is_any if limits.private_addresses else is_public,
    )
    return _recording(unquote(Path(urlsplit(url).path).name) or url, data, limits)


def read_base64(text: str, limits: SourceLimits) -> Recording:
    """The sound of a file that is given in base64. Raises AudioFormatError."""
    if len(text) > limits.max_bytes:
        raise AudioFormatError(
            f"The audio has more than {limits.max_bytes} bytes in base64, the most that is taken."
        )
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise AudioFormatError(f"The audio is not base64: {error}.") from error
    return read_content(data, limits)


def read_content(data: bytes, limits: SourceLimits) -> Recording:
    """The sound of a file that is given as it is. Raises AudioFormatError."""
    return _recording("The audio", data, limits)


def _recording(name: str, data: bytes, limits: SourceLimits) -> Recording:
    samples = read_audio(data, name=name, max_s=limits.max_s, max_bytes=limits.max_bytes)
    return _long_enough(Recording(name, samples))


def _long_enough(recording: Recording) -> Recording:
    length_ms = len(recording.samples) / SAMPLES_PER_MS
    if length_ms < MIN_UTTERANCE_MS:
        raise AudioFormatError(
            f"{recording.name} holds {length_ms:.0f} ms of sound; models take {MIN_UTTERANCE_MS} "
            "ms or more."
        )
    return recording


def _path(url: str) -> Path:
    """The path of a file:// URL. Raises AudioFormatError where that is of another machine."""
    place = urlsplit(url)
    if place.netloc not in ("", "localhost"):
        raise AudioFormatError(f"{url} is a file of another machine; one of this is file:///...")
    return Path(unquote(place.path))
