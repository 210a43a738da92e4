"""`assistant ask` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.speech import prompt, write_wav

pytestmark = pytest.mark.slow


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "hello.wav", prompt("hello-world"))


@pytest.fixture
def wordless(tmp_path: Path) -> str:
    """The settings of an engine that describes what it hears, at once."""
    file = tmp_path / "config.yaml"
    file.write_text("model: {embedded: {words: false, tokens_per_s: 10000}}")
    return f"--config={file}"


def ask(*arguments: str | Path, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "assistant.cli", "ask", *arguments],
        input=typed,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_a_recording_on_the_standard_input(hello: Path, wordless: str) -> None:
    by_name, piped = ask(wordless, hello), ask(wordless, "-", typed=hello.read_bytes())
    assert (by_name.returncode, by_name.stderr) == (0, b"")
    assert len(by_name.stdout) > 20
    assert piped.stdout == by_name.stdout


def test_answers_for_programs(hello: Path, wordless: str) -> None:
    result = ask(wordless, hello, "What is it?", "--json", "--follow-up", typed=b"And?\n\nSo?\n")
    assert (result.returncode, result.stderr) == (0, b"")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 3
    for answer in answers:
        assert answer["text"] and answer["model"] == "embedded"
        assert answer["usage"]["output_tokens"] > 0
    cached = [answer["usage"]["input_token_details"]["cached_tokens"] for answer in answers]
    assert cached[0] == 0 < cached[1] < cached[2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-", "What?", "--follow-up"], b"can't be both"),
        (["missing.wav", "also-missing.wav"], b"missing.wav can't be read"),
        (["http://localhost:1/a.wav", "What?"], b"not on the public internet"),
        (["data:;base64,AAAA"], b"no audio file"),
    ],
)
def test_mistakes(words: list[str], complaint: bytes) -> None:
    result = ask(*words)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
