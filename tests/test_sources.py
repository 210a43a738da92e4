"""Where recordings come from, and what isn't one."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

from audio_io.errors import AudioFormatError
from audio_io.parts import in_parts
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.sources import (
    SourceLimits,
    looks_like_source,
    read_base64,
    read_source,
    read_url,
)
from tests.file_server import Page, file_server
from tests.speech import write_wav

LIMITS = SourceLimits()
SOUND = (np.arange(8000) % 2000).astype(np.int16)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "a sound.wav", SOUND)


def in_base64(wav: Path) -> str:
    return base64.b64encode(wav.read_bytes()).decode()


def test_every_kind_of_source(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wav.open() as standard_input, file_server() as web:
        monkeypatch.setattr(sys, "stdin", standard_input)
        web.pages["/a%20sound.wav"] = Page(wav.read_bytes())
        sources = {
            str(wav): "a sound.wav",
            wav.as_uri(): "a sound.wav",
            f"file://localhost{wav}": "a sound.wav",
            web.url("/a%20sound.wav"): "a sound.wav",
            f"data:;base64,{in_base64(wav)}": "The audio",
            f"DATA:audio/wav;base64,{in_base64(wav)}": "The audio",
            "-": "The standard input",
        }
        for source, name in sources.items():
            recording = read_source(source, SourceLimits(private_addresses=True))
            assert recording.name == name
            np.testing.assert_array_equal(recording.samples, SOUND)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere.wav", "nowhere.wav can't be read: No such file"),
        ("file:///nowhere.wav", "/nowhere.wav can't be read: No such file"),
        ("file://elsewhere/a.wav", "a file of another machine"),
        ("data:audio/wav,abc", "must be in base64"),
        ("data:;base64,abc", "is not base64"),
        ("data:;base64,äöü=", "is not base64"),
        ("data:;base64,", "is empty"),
        ("data:;base64,AAAA", "is no audio file"),
        ("http://127.0.0.1:1/a.wav", "not on the public internet"),
    ],
)
def test_what_is_no_recording(source: str, complaint: str) -> None:
    with pytest.raises(AudioFormatError, match=complaint):
        read_source(source, LIMITS)


def test_what_is_larger_than_is_taken(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = wav.stat().st_size
    encoded = in_base64(wav)
    limits = SourceLimits(max_bytes=size - 1, private_addresses=True)
    with wav.open() as standard_input, file_server() as web:
        monkeypatch.setattr(sys, "stdin", standard_input)
        web.pages["/a.wav"] = Page(wav.read_bytes())
        for source in (str(wav), wav.as_uri(), "-", web.url("/a.wav")):
            with pytest.raises(AudioFormatError, match=f"more than {size - 1} bytes"):
                read_source(source, limits)
    # In base64 it is the encoded length that counts.
    limits = SourceLimits(max_bytes=len(encoded) - 1)
    for source in (encoded, f"data:;base64,{encoded}"):
        read = read_url if source.startswith("data:") else read_base64
        with pytest.raises(AudioFormatError, match=f"more than {len(encoded) - 1} bytes in base64"):
            read(source, limits)
    assert len(read_base64(encoded, SourceLimits(max_bytes=len(encoded))).samples) == 8000


def test_there_may_be_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AudioFormatError, match="The standard input is closed"):
        read_source("-", LIMITS)


def test_whoever_asks_from_afar_reads_no_file_here(wav: Path) -> None:
    for url in (wav.as_uri(), str(wav), "-"):
        with pytest.raises(AudioFormatError, match="is no address of the web"):
            read_url(url, LIMITS)


@pytest.mark.parametrize(
    ("word", "is_source"),
    [
        ("-", True),
        ("https://example.org/a", True),
        ("file:///a", True),
        ("data:;base64,AAAA", True),
        ("missing.wav", True),
        ("What is said?", False),
        ("Translate.", False),
        ("Translate a.wav", False),
        ("a" * 5000, False),
        ("null\0byte", False),
    ],
)
def test_sources_and_questions(word: str, is_source: bool) -> None:
    assert looks_like_source(word) == is_source


def test_a_file_may_be_called_like_a_question(tmp_path: Path) -> None:
    file = tmp_path / "What is said"
    assert not looks_like_source(str(file))
    file.touch()
    assert looks_like_source(str(file))


def loud_but_for(quiet_s: float, length_s: float) -> Int16Array:
    """Noise, with 0.4 s of silence around `quiet_s`."""
    noise = np.random.default_rng(0).integers(-9000, 9000, round(length_s * SAMPLE_RATE_HZ))
    noise[round((quiet_s - 0.2) * SAMPLE_RATE_HZ) : round((quiet_s + 0.2) * SAMPLE_RATE_HZ)] = 0
    return noise.astype(np.int16)


@pytest.mark.parametrize("length_s", [0.05, 29.9, 30.0])
def test_what_is_short_enough_is_one_part(length_s: float) -> None:
    sound = loud_but_for(1, length_s)
    ((start_s, part),) = in_parts(sound, 30.0)
    assert start_s == 0
    np.testing.assert_array_equal(part, sound)


@pytest.mark.parametrize(("length_s", "parts"), [(30.01, 2), (31, 2), (60, 3), (100, 4)])
def test_long_recordings_in_parts(length_s: float, parts: int) -> None:
    sound = loud_but_for(27, length_s)
    pieces = list(in_parts(sound, 30.0))
    assert len(pieces) == parts
    np.testing.assert_array_equal(np.concatenate([part for _, part in pieces]), sound)
    at = 0
    for start_s, part in pieces:
        assert start_s == at / SAMPLE_RATE_HZ
        assert 0.1 <= len(part) / SAMPLE_RATE_HZ <= 30
        at += len(part)
    assert abs(pieces[1][0] - 27) < 0.2
