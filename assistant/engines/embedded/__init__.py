"""The engine that needs no model: it describes what it hears, and answers a few requests."""

from assistant.engines.embedded.engine import EmbeddedEngine
from assistant.engines.embedded.settings import EmbeddedSettings

__all__ = ["EmbeddedEngine", "EmbeddedSettings"]
