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
from contextlib import aclosing
from typing import Any

from assistant.conversation import Prompt
from assistant.engines.engine import PrefillReport, ReplyOptions, TokenCount
from assistant.engines.openai_compatible.answer import Answer
from assistant.engines.openai_compatible.failures import Remedy, ServerFailure
from assistant.engines.openai_compatible.servers import Seat, Server
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.openai_compatible.streaming import Request, pieces
from assistant.engines.openai_compatible.wire import Rendering, estimated, tool_fields
from assistant.engines.operations import Operations, QueuedReply
from assistant.errors import EngineError, GaveWayError, PromptTooLongError

logger = logging.getLogger(__name__)


class OpenAICompatibleSession:
    """A ModelSession."""

    def __init__(
        self, seat: Seat, model: str, settings: OpenAICompatibleSettings, *, context_tokens: int
    ) -> None:
        self._seat = seat
        self._model = model
        self._settings = settings
        self._context_tokens = context_tokens
        self._rendering = Rendering(settings.audio_as)
        self._operations = Operations("openai_compatible engine")

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
        request = self._request(prompt, options)
        if not side:
            self._rendering.keep_only(prompt)
        answer = Answer(reply, request.estimate, loop.time())
        failed: Server | None = None
        failure: ServerFailure | None = None
        for _ in range(1 + self._settings.max_retries):
            server = self._seat.choose(loop.time())
            wait_s = server.wait_s(loop.time())
            if failure and server is failed and failure.remedy is Remedy.ELSEWHERE:
                break
            if wait_s and not reply.committed.is_set():
                raise GaveWayError(server.trouble)
            if wait_s > self._settings.first_token_timeout_s:
                raise EngineError(server.trouble)
            await asyncio.sleep(wait_s)
            try:
                async with aclosing(pieces(server, request, self._settings)) as stream:
                    async for piece in stream:
                        answer.take(piece)
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

    def _request(self, prompt: Prompt, options: ReplyOptions) -> Request:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": self._rendering.messages(prompt),
            **tool_fields(prompt),
            "max_tokens": options.max_output_tokens or self._settings.max_output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": self._settings.extra_body,
        }
        return Request(body, estimated(prompt), self._context_tokens)
