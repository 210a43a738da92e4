"""Test vocabulary: the conversation that every stock client has, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import assert_never

from assistant.config import Config
from assistant.engines.engine import ReplyOptions, ToolCall
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Part, Prompt, TextPart
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
    ["user", "thank you"],
    ["assistant", "You are welcome."],
]
TRANSCRIPT = "hello world"


class Partner(ScriptedModel):
    """The model's side of it. Has numbers added by the client where that is offered."""

    info = replace(ScriptedModel.info, tools=True)

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        reply = super().reply(prompt, options, side=side)
        if prompt.task == "transcription":
            reply.says(TRANSCRIPT)
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
            case 5:
                reply.says("You are welcome.")
        reply.ends()
        return reply

    @property
    def told(self) -> list[list[str]]:
        """Who has said what, as far as the model was told."""
        return said([reply for reply in self.replies if not reply.side][-1].prompt)


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
    client.told("thank you")
    assert await client.reads("reply") == "You are welcome."
    await client.ended()


def said(prompt: Prompt) -> list[list[str]]:
    """Who has said what, in order."""
    return [[message.role, " ".join(map(_text, message.parts))] for message in prompt.messages]


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
