"""Test vocabulary: prompts written as a dialogue."""

from __future__ import annotations

import numpy as np

from assistant.prompt import AudioPart, Message, Part, Prompt, TextPart
from audio_io.pcm import Int16Array


def prompt(*messages: Message) -> Prompt:
    """The messages in order, with ids by their place."""
    return Prompt(
        tuple(
            Message(f"item_{number}", message.role, message.parts)
            for number, message in enumerate(messages)
        )
    )


def system(text: str) -> Message:
    return Message("", "system", (TextPart(text),))


def user(*parts: str | Int16Array) -> Message:
    """Texts and sounds in order."""
    return Message("", "user", tuple(map(_part, parts)))


def assistant(text: str, ids: tuple[int, ...] = ()) -> Message:
    """A scripted turn, or, with its ids, one that the model has made."""
    return Message("", "assistant", (TextPart(text, ids),))


def _part(part: str | Int16Array) -> Part:
    return AudioPart.of(part) if isinstance(part, np.ndarray) else TextPart(part)
