"""Replies over HTTP, in whatever words the client expects: piece by piece, or whole."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.chat.exchange import Exchange, Failure
from assistant.engines.engine import ReplyEvent
from assistant.errors import EngineError, PromptTooLongError, ProtocolError, RefusedError
from assistant.tasks import race
from audio_io.errors import AudioFormatError

TOO_LARGE = "request_too_large"

logger = logging.getLogger(__name__)


def failure_of(error: Exception) -> Failure:
    """What becomes of a request in which `error` occurred; our own faults are logged."""
    match error:
        case ProtocolError():
            status = 413 if error.code == TOO_LARGE else 400
            return Failure(status, error.code, str(error), error.param)
        case AudioFormatError():
            return Failure(400, "invalid_audio", str(error))
        case PromptTooLongError():
            return Failure(400, "context_length_exceeded", str(error))
        case RefusedError():
            return Failure(503, "server_busy", str(error))
        case EngineError():
            return Failure(500, "model_error", str(error))
        case _:
            logger.error("a reply failed", exc_info=error)
            return Failure(500, "server_error", "The server failed; its log has the details.")


class ReplyResponse(Response):
    """Sends a reply. Ends it where the client has gone."""

    def __init__(
        self,
        exchange: Exchange,
        first: ReplyEvent,
        events: AsyncGenerator[ReplyEvent],
        *,
        streamed: bool,
    ) -> None:
        """`first`: the reply's first event, which `events` has given already."""
        super().__init__()
        self._exchange = exchange
        self._first = first
        self._events = events
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            work = self._stream(send) if self._streamed else self._whole(scope, receive, send)
            await race(client=_gone(receive), reply=work)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._exchange.take(self._first)
            async for event in self._events:
                self._exchange.take(event)
            response = JSONResponse(self._exchange.whole())
        except Exception as error:
            failure = failure_of(error)
            response = JSONResponse(self._exchange.failed(failure), failure.status)
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        async def say(words: bytes, *, more: bool = True) -> None:
            if words or not more:
                await send({"type": "http.response.body", "body": words, "more_body": more})

        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
            # nginx would keep it back until there is more.
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await say(self._exchange.opening() + self._exchange.take(self._first))
        try:
            async for event in self._events:
                await say(self._exchange.take(event))
            last = self._exchange.closing()
        except Exception as error:
            last = self._exchange.broken_off(failure_of(error))
        await say(last, more=False)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
