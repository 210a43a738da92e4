"""What DashScope's audio models take, by its documentation.

https://www.alibabacloud.com/help/en/model-studio/qwen-audio
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Tokens, and whether the model answers speech with no text beside it."""

    max_input_tokens: int
    max_output_tokens: int
    voice_chat: bool


DEFAULT_MODEL = "qwen-audio-turbo-latest"

_LIMITS = {
    "qwen-audio-turbo": ModelLimits(6000, 1500, voice_chat=False),
    "qwen-audio-turbo-latest": ModelLimits(6144, 2048, voice_chat=True),
    "qwen2-audio-instruct": ModelLimits(6144, 2048, voice_chat=True),
}


def limits_of(model: str) -> ModelLimits:
    """Of a model that isn't known: those of the newest that is."""
    return _LIMITS.get(model, _LIMITS[DEFAULT_MODEL])
