"""One conversation with a model behind servers.

A request carries the whole conversation. Nothing is kept here but the audio in its encoded form;
what was computed of it is in the server's prefix cache, so a conversation stays with its server
until that fails.

A reply that is begun ahead of its turn's end is read as fast as it comes, without a bound on
tokens: a server goes on into the connection's buffers, which hold thousands, whether one reads or
not. What bounds it is that the request is aborted when speech resumes; that takes no longer than
the rest of the pause, 450 ms by default.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

from assistant.engines.engine import PrefillReport, ReplyOptions, TokenCount
from assistant.engines.operations import Operations, QueuedReply
from assistant.engines.remote.answer import Answer
from assistant.engines.remote.estimate import estimated
from assistant.engines.remote.failures import Remedy, ServerFailure, sentence
from assistant.engines.remote.pieces import Piece, timed
from assistant.engines.remote.servers import Seat, Server
from assistant.engines.remote.settings import RemoteSettings
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from assistant.prompt import Prompt

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)

logger = logging.getLogger(__name__)


class Asker(Protocol[C_contra]):
    """Asks servers in their own words, for one conversation."""

    def ask(
        self, client: C_contra, server: str, prompt: Prompt, options: ReplyOptions
    ) -> AsyncGenerator[Piece]:
        """The pieces of a reply by the server with that name, as they come.

        The request is aborted where they are closed. Raises ServerFailure, PromptTooLongError.
        """

    def keep_only(self, prompt: Prompt) -> None:
        """Let go of what was made for messages that `prompt` no longer holds."""


class RemoteSession(Generic[C]):
    """A ModelSession."""

    def __init__(self, seat: Seat[C], asker: Asker[C], settings: RemoteSettings) -> None:
        self._seat = seat
        self._asker = asker
        self._settings = settings
        self._operations = Operations("remote engine")

    async def count(self, prompt: Prompt) -> TokenCount:
        """About how many tokens `prompt` takes: only the server knows."""
        return estimated(prompt)

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        """Does nothing, as servers can't be asked for it; reports that nothing is held."""
        return PrefillReport(estimated(prompt), reused=TokenCount())

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> QueuedReply:
        return QueuedReply(
            self._operations,
            lambda reply: self._answer(reply, prompt, options, side=side),
            committed=not options.speculative,
            side=side,
        )

    async def close(self) -> None:
        await self._operations.close()
        self._seat.leave()

    async def _answer(
        self, reply: QueuedReply, prompt: Prompt, options: ReplyOptions, *, side: bool
    ) -> None:
        """Ask one server after the other, until one begins to answer.

        Raises EngineError; GaveWayError where a reply that is ahead of its turn would have to wait.
        """
        loop = asyncio.get_running_loop()
        if not side:
            self._asker.keep_only(prompt)
        max_tokens = options.max_output_tokens or self._settings.max_output_tokens
        answer = Answer(reply, estimated(prompt), loop.time(), max_tokens=max_tokens)
        failed: Server[C] | None = None
        failure: ServerFailure | None = None
        for _ in range(1 + self._settings.max_retries):
            server = self._seat.choose(loop.time())
            wait_s = server.wait_s(loop.time())
            if failure and server is failed and failure.remedy is Remedy.ELSEWHERE:
                break
            if wait_s and not reply.committed.is_set():
                raise GaveWayError(server.trouble)
            if wait_s > self._settings.first_token_timeout_s:
                trouble = sentence(server.trouble)
                raise EngineError(f"{trouble} It is left alone for {wait_s:.0f} s yet.")
            await asyncio.sleep(wait_s)
            try:
                asked = self._asker.ask(server.client, server.name, prompt, options)
                async with aclosing(timed(asked, server.name, self._settings)) as pieces:
                    async for piece in pieces:
                        answer.take(piece)
                        if not answer.goes_on:
                            break
            except PromptTooLongError as error:
                if answer.begun:
                    # Asked for again, it would say its first words twice.
                    raise EngineError(str(error)) from error
                raise
            except ServerFailure as error:
                logger.warning("%s", error)
                if error.remedy is not Remedy.NONE:
                    server.failed(error, loop.time())
                if error.remedy is Remedy.NONE or answer.begun:
                    raise
                failed, failure = server, error
            else:
                server.answered()
                answer.finish()
                return
        assert failure is not None
        raise failure
