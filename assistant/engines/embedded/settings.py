"""What can be set of the embedded engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.settings import Settings


class EmbeddedSettings(Settings):
    """How the stand-in behaves where it stands in for a model's pace."""

    words: bool = True
    """Recognise speech where pocketsphinx (the extra `words`) is installed."""
    tokens_per_s: Annotated[float, Field(gt=0, le=10_000)] = 25.0
    """Pace of a reply: that of a 7B model on a laptop's GPU, and about as fast as people read."""
    decode_ahead_tokens: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Most tokens of a reply that is begun before its turn is over."""
