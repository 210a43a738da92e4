"""What servers send for a reply, piece by piece, and for how long it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from assistant.engines.remote.failures import Remedy, ServerFailure
from assistant.engines.remote.settings import RemoteSettings
from assistant.errors import EngineError

USAGE_TIMEOUT_S = 1.0
"""From the end of a reply to its usage, which servers that tell it send right after."""
CLOSING_TIMEOUT_S = 0.05
"""From the usage to the stream's own end, after which the connection can be used again. It comes
with the usage, or from some servers not at all."""


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a function call."""

    index: int
    """Of the call, among those of the reply."""
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ToldUsage:
    """Tokens, as far as a server tells them."""

    input: int
    output: int
    audio: int | None = None
    """Of the input; None where it isn't told."""
    cached: int = 0
    """Of the input."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event of a stream says."""

    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    ended_by: str | None = None
    """The server's reason to end the reply, where it has come to its end."""
    usage: ToldUsage | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.text or self.calls)

    @property
    def chars(self) -> int:
        """How much it says."""
        return len(self.text) + sum(len(call.name) + len(call.arguments) for call in self.calls)


async def timed(
    pieces: AsyncGenerator[Piece], server: str, settings: RemoteSettings
) -> AsyncGenerator[Piece]:
    """The same, as long as they come in time; `pieces` are closed when nobody reads on.

    The end of a reply is its last, but for the usage: a stream that stays open after it is left.

    Raises ServerFailure, and what `pieces` raise up to the reply's end.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + settings.first_token_timeout_s
    begun = ended = False
    async with aclosing(pieces):
        try:
            while True:
                async with asyncio.timeout_at(deadline_s):
                    piece = await anext(pieces)
                begun = begun or piece.says_something
                if ended or piece.ended_by is not None:
                    if not ended:
                        deadline_s = loop.time() + USAGE_TIMEOUT_S
                    if piece.usage is not None:
                        deadline_s = min(deadline_s, loop.time() + CLOSING_TIMEOUT_S)
                    ended = True
                elif begun:
                    deadline_s = loop.time() + settings.token_timeout_s
                yield piece
        except StopAsyncIteration:
            if not ended:
                raise ServerFailure(f"{server} broke the reply off.", Remedy.LATER) from None
        except TimeoutError as error:
            if ended:
                return
            waited_s = settings.token_timeout_s if begun else settings.first_token_timeout_s
            what = "no more of the reply" if begun else "no answer"
            raise ServerFailure(
                f"{server} sent {what} for {waited_s:g} s.", Remedy.ELSEWHERE
            ) from error
        except EngineError:
            if not ended:
                raise
