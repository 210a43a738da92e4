"""What a server sends, as the events of a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

from assistant.engines.engine import (
    Finished,
    PrefillReport,
    Started,
    Text,
    Timings,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.engines.operations import QueuedReply
from assistant.engines.remote.estimate import in_proportion
from assistant.engines.remote.pieces import CallPiece, Piece, ToldUsage
from assistant.errors import EngineError

MAX_TOKEN_CHARS = 128
"""Of the longest tokens that vocabularies have: runs of spaces."""


@dataclass(slots=True)
class _Call:
    """A function call of which not all has come."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""


class Answer:
    """One reply as it comes, from whichever server."""

    def __init__(
        self, reply: QueuedReply, estimate: TokenCount, asked_s: float, *, max_tokens: int
    ) -> None:
        self._reply = reply
        self._estimate = estimate
        self._asked_s = asked_s
        self._chars_left = max_tokens * MAX_TOKEN_CHARS
        self._prefill_ms: float | None = None
        self._first_token_ms: float | None = None
        self._pieces = 0
        self._calls: dict[int, _Call] = {}
        self._ended_by = ""
        self._usage: ToldUsage | None = None

    @property
    def begun(self) -> bool:
        """Whether it has said anything: then no other server can answer in its place."""
        return self._pieces > 0

    @property
    def goes_on(self) -> bool:
        """Whether more is to be taken; a server that doesn't keep to its limit is read no more."""
        return self._chars_left > 0

    def take(self, piece: Piece) -> None:
        """The next of what the server sends."""
        if self._prefill_ms is None:
            self._prefill_ms = self._since_ms()
            # The truth about the prompt comes with the end.
            self._reply.put(Started(PrefillReport(self._estimate, reused=TokenCount())))
        if piece.says_something:
            self._pieces += 1
            if self._first_token_ms is None:
                self._first_token_ms = self._since_ms()
        if piece.text:
            self._reply.put(Text(_readable(piece.text), ()))
        self._collect(piece.calls)
        # Of those that say nothing there must be an end, too.
        self._chars_left -= max(1, piece.chars)
        self._ended_by = piece.ended_by or self._ended_by
        self._usage = piece.usage or self._usage

    def finish(self) -> None:
        """The server has said all. Raises EngineError where it was kept from it."""
        if self._ended_by == "content_filter":
            raise EngineError("The server's content filter ended the reply.")
        cut = self._ended_by == "length" or not self.goes_on
        for index, call in sorted(self._calls.items()):
            # Of one that was cut off, nobody knows what it was to be called with.
            if not (cut and index == max(self._calls)):
                # Not all servers give calls an id.
                call_id = call.call_id or f"call_{token_hex(8)}"
                name, arguments = _readable(call.name), _readable(call.arguments)
                self._reply.put(ToolCall(_readable(call_id), name, arguments, ()))
        total_ms = self._since_ms()
        prefill_ms = total_ms if self._prefill_ms is None else self._prefill_ms
        first_token_ms = total_ms if self._first_token_ms is None else self._first_token_ms
        self._reply.put(
            Finished(
                "length" if cut else "stop",
                usage_of(self._usage, self._estimate, pieces=self._pieces),
                Timings(prefill_ms, first_token_ms, total_ms),
            )
        )

    def _collect(self, pieces: Sequence[CallPiece]) -> None:
        for piece in pieces:
            call = self._calls.setdefault(piece.index, _Call())
            call.call_id = call.call_id or piece.call_id
            call.name += piece.name
            call.arguments += piece.arguments

    def _since_ms(self) -> float:
        return (asyncio.get_running_loop().time() - self._asked_s) * 1000


def usage_of(told: ToldUsage | None, estimate: TokenCount, *, pieces: int) -> Usage:
    """The usage that a server tells; where it tells none, about what it was.

    Most don't tell audio from text: then what they count is divided as `estimate` is.
    """
    if told is None:
        return Usage(estimate, TokenCount(), pieces)
    prompt = (
        TokenCount(told.input - told.audio, told.audio)
        if told.audio
        else in_proportion(told.input, like=estimate)
    )
    return Usage(prompt, in_proportion(told.cached, like=prompt), told.output)


def _readable(text: str) -> str:
    """The same without halves of characters, which JSON can hold and no text."""
    return text.encode(errors="replace").decode()
