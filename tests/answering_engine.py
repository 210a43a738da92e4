"""Test vocabulary: an engine that has its answers ready, for those who only listen."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from assistant.engines.engine import ReplyOptions, ToolCall
from assistant.prompt import Prompt
from tests.scripted_engine import ScriptedModel, ScriptedReply

Script = Sequence[str | Exception | ToolCall | EllipsisType]


class AnsweringModel(ScriptedModel):
    """Answers the user's first message with the first script, and so on.

    A script is what the reply says; an exception or a tool call is what becomes of it; `...` at
    its end: it is never finished.
    """

    def __init__(self, *scripts: Script) -> None:
        super().__init__()
        self._scripts = scripts
        self.times_started = 0
        self.times_closed = 0
        """As an engine and as its session, which are one."""

    async def start(self) -> None:
        self.times_started += 1

    async def close(self) -> None:
        self.times_closed += 1

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        reply = super().reply(prompt, options, side=side)
        messages = sum(message.role == "user" for message in prompt.messages)
        for piece in self._scripts[messages - 1]:
            match piece:
                case str():
                    reply.says(piece)
                case EllipsisType():
                    return reply
                case _:
                    reply.script.put_nowait(piece)
        reply.ends()
        return reply
