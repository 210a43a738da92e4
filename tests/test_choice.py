"""Which engine is taken, and what doesn't go together."""

from __future__ import annotations

import sys

import pytest

from assistant.choice import make_engine
from assistant.config import ModelConfig
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.transformers import TransformersEngine
from assistant.errors import ConfigError


@pytest.mark.parametrize(
    ("engine", "name", "taken"),
    [
        ("auto", None, EmbeddedEngine),
        ("embedded", None, EmbeddedEngine),
        ("auto", "org/model", TransformersEngine),
        ("transformers", "org/model", TransformersEngine),
    ],
)
def test_naming_a_model_takes_the_engine_that_loads_it(
    engine: str, name: str | None, taken: type[Engine]
) -> None:
    config = ModelConfig.model_validate({"engine": engine, "name": name})
    assert isinstance(make_engine(config), taken)


@pytest.mark.parametrize(
    ("engine", "name", "taken"),
    [
        ("auto", None, OpenAICompatibleEngine),
        ("auto", "org/model", OpenAICompatibleEngine),
        ("openai_compatible", None, OpenAICompatibleEngine),
        ("embedded", None, EmbeddedEngine),
        ("transformers", "org/model", TransformersEngine),
    ],
)
async def test_where_servers_are_listed_they_answer_unless_an_engine_is_named(
    engine: str, name: str | None, taken: type[Engine]
) -> None:
    servers = {"base_urls": ["http://127.0.0.1:8000/v1"]}
    config = ModelConfig.model_validate(
        {"engine": engine, "name": name, "openai_compatible": servers}
    )
    made = make_engine(config)
    assert isinstance(made, taken)
    await made.close()


def test_what_an_engine_needs_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "assistant.engines.openai_compatible.engine", None)
    config = ModelConfig.model_validate({"openai_compatible": {"base_urls": ["http://host/v1"]}})
    with pytest.raises(ConfigError, match=r"needs the package .*: pip install -e '\.\[remote\]'"):
        make_engine(config)


@pytest.mark.parametrize("name", [None, "qwen-audio-turbo"])
def test_dashscope_is_taken_where_it_is_named(name: str | None) -> None:
    pytest.importorskip("dashscope", reason="pip install dashscope")
    config = ModelConfig.model_validate({"engine": "dashscope", "name": name})
    assert make_engine(config).info.model == (name or "qwen-audio-turbo-latest")


@pytest.mark.parametrize(
    ("engine", "name", "text"),
    [
        ("openai_compatible", None, r"list its address in .*base_urls"),
        ("transformers", None, "needs a model: its hub id, such as --model Qwen/"),
        ("embedded", "org/model", "no use for the model org/model"),
    ],
)
def test_what_does_not_go_together(engine: str, name: str | None, text: str) -> None:
    config = ModelConfig.model_validate({"engine": engine, "name": name})
    with pytest.raises(ConfigError, match=text):
        make_engine(config)
