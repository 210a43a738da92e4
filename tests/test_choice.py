"""Which engine is taken, and what doesn't go together."""

from __future__ import annotations

import pytest

from assistant.choice import make_engine
from assistant.config import ModelConfig
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine
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
    ("engine", "name", "text"),
    [
        ("transformers", None, "needs a model: its hub id, such as --model Qwen/"),
        ("embedded", "org/model", "no use for the model org/model"),
    ],
)
def test_what_does_not_go_together(engine: str, name: str | None, text: str) -> None:
    config = ModelConfig.model_validate({"engine": engine, "name": name})
    with pytest.raises(ConfigError, match=text):
        make_engine(config)
