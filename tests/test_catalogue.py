"""The list of models: it holds all that are served, and tells of each what is true."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assistant.commands import app
from assistant.engines.transformers.catalogue import NOT_SERVED, SERVED, reason_against
from assistant.engines.transformers.model import load
from assistant.engines.transformers.models.registry import ARCHITECTURES
from tests.model_cards import MODELS
from tests.test_transformers_session import ON_CPU


def test_every_architecture_is_listed() -> None:
    assert {served.architecture for served in SERVED} == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"qwen2_audio"}))
def test_modes_are_those_of_the_entry(architecture: str, tmp_path: Path) -> None:
    build, _ = MODELS[architecture]
    modes = load(str(build(tmp_path)), ON_CPU).modes
    listed = [frozenset(s.modes) for s in SERVED if s.architecture == architecture]
    assert set(listed) == {modes}


def test_the_readme_s_table_has_all_of_them_and_names_tests_that_there_are() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    rows = [line.split("|") for line in readme.read_text().splitlines() if line.startswith("|")]
    head = next(number for number, row in enumerate(rows) if "`NAME`" in row[2])
    table = list(takewhile(lambda row: len(row) == 6, rows[head + 2 :]))
    names = {name for _, _, name, *_ in table for name in re.findall(r"`(\w+)`", name)}
    assert names == MODELS.keys()
    models = " ".join(row[1] for row in table)
    for unserved in NOT_SERVED:
        assert unserved in models
    for file in re.findall(r"tests/\w+\.py", str(table)):
        assert (readme.parent / file).exists()


def test_the_command_prints_a_line_for_each() -> None:
    lines = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(SERVED) + 1]] == [
        "model",
        *(served.model for served in SERVED),
    ]
    assert "8192" in lines[1] and "voice_chat, audio_analysis, text" in lines[1]
    assert [line.split(":")[0].strip() for line in lines[-len(NOT_SERVED) :]] == list(NOT_SERVED)


def test_reasons() -> None:
    assert reason_against("ultravox") and reason_against("SpeechGPTModel")
    assert reason_against("llama") is None
