"""Which engine answers."""

from __future__ import annotations

from assistant.config import ModelConfig
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine, EngineInfo
from assistant.engines.transformers import TransformersEngine
from assistant.errors import ConfigError, EngineError

EXAMPLE = "Qwen/Qwen2-Audio-7B-Instruct"


def make_engine(config: ModelConfig) -> Engine:
    """The engine that the configuration names, not yet started.

    With `auto`: servers where there are some, else the model named, else the embedded engine.

    Raises ConfigError where engine and model don't go together.
    """
    if config.engine == "openai_compatible" or (
        config.engine == "auto" and config.openai_compatible.base_urls
    ):
        return _behind_servers(config)
    model = config.name
    if model is None:
        if config.engine == "transformers":
            raise ConfigError(
                f"The transformers engine needs a model: its hub id, such as --model {EXAMPLE}, "
                "or the folder of a checkpoint."
            )
        return EmbeddedEngine(config.embedded)
    if config.engine == "embedded":
        raise ConfigError(
            f"The embedded engine has no use for the model {model}. Leave one of them out: "
            "--model alone takes the transformers engine."
        )
    return TransformersEngine(model, config.transformers)


def _behind_servers(config: ModelConfig) -> Engine:
    if not config.openai_compatible.base_urls:
        raise ConfigError(
            "The openai_compatible engine needs a server: list its address in the configuration's "
            'model.openai_compatible.base_urls, as ["http://127.0.0.1:8000/v1"].'
        )
    try:
        # Here, since it takes a second to import, and an extra to install.
        from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The openai_compatible engine needs the package {error.name}: "
            "pip install -e '.[remote]'"
        ) from error
    return OpenAICompatibleEngine(config.name, config.openai_compatible)


def check_converses(info: EngineInfo) -> None:
    """Raises EngineError where the engine, which has started, can't hold a conversation."""
    if "continuation" in info.modes:
        raise EngineError(
            f"{info.model} is a base model: it answers nobody, but goes on with what it is given, "
            f"as `assistant ask` lets it. To talk, take one that was taught to, such as {EXAMPLE}."
        )
