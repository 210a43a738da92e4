"""What something has cost, as clients are told. Pure."""

from __future__ import annotations

from typing import Any

from assistant.engines.engine import Usage


def response_usage(usage: Usage) -> dict[str, Any]:
    """Of a response."""
    return {
        "total_tokens": usage.input.total + usage.output_tokens,
        "input_tokens": usage.input.total,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input.text,
            "audio_tokens": usage.input.audio,
            "image_tokens": 0,
            "cached_tokens": usage.cached.total,
            "cached_tokens_details": {
                "text_tokens": usage.cached.text,
                "audio_tokens": usage.cached.audio,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": usage.output_tokens, "audio_tokens": 0},
    }


def transcription_usage(usage: Usage) -> dict[str, Any]:
    """Of a transcription."""
    return {
        "type": "tokens",
        "total_tokens": usage.input.total + usage.output_tokens,
        "input_tokens": usage.input.total,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input.text,
            "audio_tokens": usage.input.audio,
        },
    }
