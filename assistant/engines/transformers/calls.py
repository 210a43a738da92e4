"""Calls of functions, read out of what a model writes. Pure.

    Let me see.
    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Rome"}}
    </tool_call>

So Qwen's models were taught to write them, and many others after them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from assistant.engines.engine import Finished, ReplyEvent, Text, ToolCall

BEGIN, END = "<tool_call>", "</tool_call>"


def are_taught(template: str) -> bool:
    """Whether a chat template has functions, and calls of them in this form."""
    return "tools" in template and BEGIN in template


class CallReader:
    """Finds the calls among a reply's texts. What may yet become one is held back until it is
    known; what looked like one and is none stays text."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._held: list[Text] = []

    def read(self, event: ReplyEvent) -> list[ReplyEvent]:
        """What the next event of the reply comes to."""
        match event:
            case Text():
                self._held.append(event)
                return self._decided()
            case Finished():
                rest, self._held = self._held, []
                return [*rest, event]
            case _:
                return [event]

    def _decided(self) -> list[ReplyEvent]:
        written = self._written
        begin = written.find(BEGIN)
        if begin < 0:
            return [*self._taken(_certain_length(written))]
        # The space before it is the template's, not the reply's.
        before = self._taken(len(written[:begin].rstrip()))
        end = self._written.find(END)
        if end < 0:
            return [*before]
        pieces = self._taken(end + len(END))
        call = self._call(pieces)
        return [*before, *([call] if call else pieces), *self._decided()]

    @property
    def _written(self) -> str:
        return "".join(text.text for text in self._held)

    def _call(self, pieces: list[Text]) -> ToolCall | None:
        written = "".join(piece.text for piece in pieces).strip()
        try:
            match json.loads(written.removeprefix(BEGIN).removesuffix(END)):
                case {"name": str(name), "arguments": dict(arguments)}:
                    ids = tuple(id_ for piece in pieces for id_ in piece.ids)
                    return ToolCall(self._new_id(), name, json.dumps(arguments), ids)
        except json.JSONDecodeError:
            pass
        return None

    def _taken(self, length: int) -> list[Text]:
        """The first `length` characters of what is held.

        Of a piece that is cut, the tokens stay with its end: they are one message in the prompt.
        """
        taken: list[Text] = []
        while length > 0:
            piece = self._held.pop(0)
            if len(piece.text) > length:
                self._held.insert(0, Text(piece.text[length:], piece.ids))
                piece = Text(piece.text[:length], ())
            taken.append(piece)
            length -= len(piece.text)
        return taken


def _certain_length(written: str) -> int:
    """How much of it can't be the space before a call, nor the beginning of one."""
    for length in range(min(len(BEGIN) - 1, len(written)), 0, -1):
        if BEGIN.startswith(written[-length:]):
            written = written[:-length]
            break
    return len(written.rstrip())
