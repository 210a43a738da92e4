"""Which engine answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, assert_never

from assistant.config import ModelConfig
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine, EngineInfo
from assistant.engines.transformers import TransformersEngine
from assistant.errors import ConfigError, EngineError

EXAMPLE = "Qwen/Qwen2-Audio-7B-Instruct"


EngineKind = Literal["embedded", "transformers", "openai_compatible", "dashscope"]


def engine_kind(config: ModelConfig) -> EngineKind:
    """Which engine answers. `auto`: servers where there are some, else the model named, else the
    embedded engine."""
    if config.engine != "auto":
        return config.engine
    if config.openai_compatible.base_urls:
        return "openai_compatible"
    return "transformers" if config.name else "embedded"


def make_engine(config: ModelConfig) -> Engine:
    """The engine of that kind, not yet started.

    Raises ConfigError where engine and model don't go together.
    """
    match engine_kind(config):
        case "embedded":
            return _embedded(config)
        case "transformers":
            return _transformers(config)
        case "openai_compatible":
            return _openai_compatible(config)
        case "dashscope":
            return _dashscope(config)
        case kind:
            assert_never(kind)


def _embedded(config: ModelConfig) -> Engine:
    if config.name:
        raise ConfigError(
            f"The embedded engine has no use for the model {config.name}. Leave one of them out: "
            "--model alone takes the transformers engine."
        )
    return EmbeddedEngine(config.embedded)


def _transformers(config: ModelConfig) -> Engine:
    if not config.name:
        raise ConfigError(
            f"The transformers engine needs a model: its hub id, such as --model {EXAMPLE}, "
            "or the folder of a checkpoint."
        )
    return TransformersEngine(config.name, config.transformers)


def _openai_compatible(config: ModelConfig) -> Engine:
    if not config.openai_compatible.base_urls:
        raise ConfigError(
            "The openai_compatible engine needs a server: list its address in the configuration's "
            'model.openai_compatible.base_urls, as ["http://127.0.0.1:8000/v1"].'
        )
    with _extra_remote():
        # Here, since it takes a second to import.
        from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
    return OpenAICompatibleEngine(config.name, config.openai_compatible)


def _dashscope(config: ModelConfig) -> Engine:
    with _extra_remote():
        from assistant.engines.dashscope.engine import DashScopeEngine
    return DashScopeEngine(config.name, config.dashscope)


@contextmanager
def _extra_remote() -> Iterator[None]:
    """Tells how to install what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"This engine needs the package {error.name}: pip install -e '.[remote]'"
        ) from error


def check_converses(info: EngineInfo) -> None:
    """Raises EngineError where the engine, which has started, can't hold a conversation."""
    if "continuation" in info.modes:
        raise EngineError(
            f"{info.model} is a base model: it answers nobody, but goes on with what it is given, "
            f"as `assistant ask` lets it. To talk, take one that was taught to, such as {EXAMPLE}."
        )
