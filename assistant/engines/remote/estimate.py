"""About how many tokens a prompt takes: only its server can count them. Pure."""

from __future__ import annotations

from typing import assert_never

from assistant.conversation import TEMPLATE_CHARS
from assistant.engines.engine import TokenCount
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Prompt, TextPart
from audio_io.pcm import SAMPLE_RATE_HZ

AUDIO_TOKENS_PER_S = 25
"""Of Qwen's audio models. Whisper's encoder makes 50 frames a second of which others keep fewer."""
CHARS_PER_TOKEN = 4
"""Of English, about."""


def estimated(prompt: Prompt) -> TokenCount:
    """What `prompt` takes, about."""
    chars = sum(
        len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in prompt.tools
    )
    samples = 0
    for message in prompt.messages:
        chars += TEMPLATE_CHARS
        for part in message.parts:
            match part:
                case TextPart():
                    chars += len(part.text)
                case AudioPart():
                    samples += len(part.samples)
                case FunctionCall():
                    chars += len(part.name) + len(part.arguments)
                case FunctionOutput():
                    chars += len(part.output)
                case _:
                    assert_never(part)
    return TokenCount(
        text=round(chars / CHARS_PER_TOKEN),
        audio=round(samples * AUDIO_TOKENS_PER_S / SAMPLE_RATE_HZ),
    )


def in_proportion(total: int, like: TokenCount) -> TokenCount:
    """So many tokens, divided as `like` is."""
    audio = round(total * like.audio / max(1, like.total))
    return TokenCount(text=total - audio, audio=audio)
