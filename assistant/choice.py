"""Which engine answers."""

from __future__ import annotations

from assistant.config import ModelConfig
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine
from assistant.engines.transformers import TransformersEngine
from assistant.errors import ConfigError

EXAMPLE = "Qwen/Qwen2-Audio-7B-Instruct"


def make_engine(config: ModelConfig) -> Engine:
    """The engine that the configuration names, not yet started.

    Raises ConfigError where engine and model don't go together.
    """
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
