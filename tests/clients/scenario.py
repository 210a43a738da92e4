"""Test vocabulary: the conversation that every stock client has, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import assert_never

from assistant.config import Config
from assistant.conversation import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Message,
    Part,
    Prompt,
    TextPart,
)
from assistant.engines.engine import ReplyOptions, ToolCall
from tests.clients.program import Program
from tests.scripted_engine import ScriptedModel, ScriptedReply

KEY = "open-sesame"
CONFIG = Config.load(overrides={"server": {"api_key": KEY}})

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


class Partner(ScriptedModel):
    """The model's side of it: writes down what it hears, has numbers added for it where the client offers that."""

    info = replace(ScriptedModel.info, tools=True)

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        reply = super().reply(prompt, options, side=side)
        if prompt.task == "transcription":
            reply.says("hello world")
            reply.ends()
            return reply
        match sum(message.role == "user" for message in prompt.messages):
            case 0:
                reply.says("Hello.")
            case 1:
                reply.says("I ", "heard ", "you.")
            case 2 if prompt.tools and prompt.messages[-1].role == "user":
                reply.script.put_nowait(ToolCall("call_1", "add", '{"a": 2, "b": 3}', ()))
            case 2:
                reply.says("Five.")
            case 3:
                reply.says("One,", " two,")
                return reply
            case 4:
                reply.says("You interrupted.")
        reply.ends()
        return reply


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
    return [[message.role, " ".join(map(_text, message.parts))] for message in messages]


def _text(part: Part) -> str:
    match part:
        case AudioPart():
            return "(speech)"
        case TextPart():
            return part.text
        case FunctionCall():
            return f"{part.name}({part.arguments})"
        case FunctionOutput():
            return part.output
        case _:
            assert_never(part)
