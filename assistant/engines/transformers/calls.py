"""Calls of functions, read out of what a model writes. Pure.

Let me see.
<tool_call>
{"name": "get_weather", "arguments": {"city": "Rome"}}
</tool_call>
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from assistant.engines.engine import Finished, ReplyEvent, Text, ToolCall
from assistant.engines.transformers.call_formats import CallFormat, read_block


class CallReader:
    """Finds the calls among a reply's texts. What may yet become one is held back until it is
    known; what looked like one and is none stays text."""

    def __init__(self, form: CallFormat, new_id: Callable[[], str]) -> None:
        self._form = form
        self._new_id = new_id
        self._held: list[Text] = []

    def read(self, event: ReplyEvent) -> list[ReplyEvent]:
        """What the next event of the reply comes to."""
        match event:
            case Text():
                self._held.append(event)
                return [*self._decided()]
            case Finished():
                return [*self._decided(event), event]
            case _:
                return [event]

    def _decided(self, finished: Finished | None = None) -> Iterator[ReplyEvent]:
        """What is known of what is held; with `finished`, that is all of it."""
        begin = self._form.begin
        while (at := self._written.find(begin)) >= 0:
            # The space before it is the template's, not the reply's.
            said = len(self._written[:at].rstrip())
            yield from self._said(said)
            space = at - said
            block = read_block(self._form, self._written[space:], over=finished is not None)
            if block is None:
                return
            done = -space
            for call in block.calls:
                pieces = self._taken(call.end - done)
                done = call.end
                ids = tuple(id_ for piece in pieces for id_ in piece.ids)
                yield ToolCall(self._new_id(), call.name, call.arguments, ids)
            looked_like_one = self._said(block.end - done)
            # What was cut off might have become one, and is nothing now.
            if block.closed or (finished and finished.reason == "stop"):
                yield from looked_like_one
        written = self._written
        yield from self._said(len(written) if finished else _certain_length(written, begin))

    def _said(self, length: int) -> list[Text]:
        """The first `length` characters of what is held, as text."""
        return [piece for piece in self._taken(length) if piece.text not in self._form.control]

    @property
    def _written(self) -> str:
        return "".join(text.text for text in self._held)

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


def _certain_length(written: str, begin: str) -> int:
    """How much of it can't be the space before `begin`, nor the beginning of that."""
    for length in range(min(len(begin) - 1, len(written)), 0, -1):
        if begin.startswith(written[-length:]):
            written = written[:-length]
            break
    return len(written.rstrip())
