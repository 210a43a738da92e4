"""Audio-language models through the transformers library. The only code that imports torch."""

from assistant.engines.transformers.engine import TransformersEngine
from assistant.engines.transformers.settings import TransformersSettings

__all__ = ["TransformersEngine", "TransformersSettings"]
