"""Test vocabulary: the conversation that every stock client has, and what comes of it."""

from __future__ import annotations

from pathlib import Path

from assistant.config import Config
from assistant.conversation import AudioPart, Message
from tests.clients.program import Program

KEY = "open-sesame"
CONFIG = Config.load(overrides={"server": {"api_key": KEY}})

SCRIPTS = ["I ", "heard ", "you."], ["Five."], ["One,", " two,", ...], ["You interrupted."]
CONVERSATION = [
    ["user", "(speech)"],
    ["assistant", "I heard you."],
    ["user", "two plus three"],
    ["assistant", "Five."],
    ["user", "count to twenty"],
    ["assistant", "One, two,"],
    ["user", "(speech)"],
    ["assistant", "You interrupted."],
]


async def converse(client: Program, speech: Path) -> None:
    """Speak, type, ask for something long and interrupt it by speech."""
    client.told(speech)
    assert await client.reads("reply") == "I heard you."
    client.told("two plus three")
    assert await client.reads("reply") == "Five."
    client.told("count to twenty")
    assert await client.reads("text") == "One,"
    assert await client.reads("text") == " two,"
    client.told(speech)
    assert await client.reads("reply") == "One, two,"
    assert await client.reads("reply") == "You interrupted."
    await client.ended()


def said(messages: tuple[Message, ...]) -> list[list[str]]:
    """Who said what, as the model was told it."""
    return [
        [
            message.role,
            " ".join(
                "(speech)" if isinstance(part, AudioPart) else part.text for part in message.parts
            ),
        ]
        for message in messages
    ]
