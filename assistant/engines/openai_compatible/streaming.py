"""One request for a reply, and what a server sends for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import (
    Choice,
    ChoiceDelta,
    ChoiceDeltaToolCall,
)

from assistant.engines.engine import TokenCount
from assistant.engines.openai_compatible.failures import Remedy, ServerFailure, failure_of
from assistant.engines.openai_compatible.servers import Server
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings


@dataclass(frozen=True, slots=True)
class Request:
    """What any server can be asked."""

    body: dict[str, Any]
    """Arguments of `chat.completions.create`."""
    estimate: TokenCount
    """Of the prompt."""
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event of the stream says."""

    text: str = ""
    calls: tuple[ChoiceDeltaToolCall, ...] = ()
    """Pieces of function calls, told apart by their index."""
    ended_by: str | None = None
    """The server's reason to end the reply, where it has come to its end."""
    usage: CompletionUsage | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.text or self.calls)


async def pieces(
    server: Server, request: Request, settings: OpenAICompatibleSettings
) -> AsyncGenerator[Piece]:
    """Ask `server`, and yield what it sends; the request is aborted where nobody reads on.

    Raises ServerFailure, PromptTooLongError.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + settings.first_token_timeout_s
    begun = ended = False
    stream: openai.AsyncStream[ChatCompletionChunk] | None = None
    try:
        async with asyncio.timeout_at(deadline_s):
            stream = await server.client.chat.completions.create(**request.body)
        while True:
            async with asyncio.timeout_at(deadline_s):
                piece = _piece(await anext(stream))
            if piece.says_something or begun:
                begun = True
                deadline_s = loop.time() + settings.token_timeout_s
            ended = ended or piece.ended_by is not None
            yield piece
    except StopAsyncIteration:
        if not ended:
            raise ServerFailure(f"{server.name} broke the reply off.", Remedy.LATER) from None
    except TimeoutError as error:
        if ended:
            return
        waited_s = settings.token_timeout_s if begun else settings.first_token_timeout_s
        what = "no more of the reply" if begun else "no answer"
        raise ServerFailure(
            f"{server.name} sent {what} for {waited_s:g} s.", Remedy.ELSEWHERE
        ) from error
    # JSON that is none is a ValueError.
    except (openai.OpenAIError, ValueError) as error:
        if ended:
            return
        raise failure_of(
            error,
            server.name,
            now_s=time.time(),
            estimate=request.estimate,
            context_tokens=request.context_tokens,
        ) from error
    finally:
        if stream is not None:
            await stream.close()


def _piece(chunk: ChatCompletionChunk) -> Piece:
    """Raises ValueError where it isn't what its type says: the package checks nothing."""
    match chunk:
        case ChatCompletionChunk(choices=[Choice(delta=delta, finish_reason=ended_by), *_]):
            text = calls = None
            if isinstance(delta, ChoiceDelta):
                text, calls = delta.content, delta.tool_calls
            if isinstance(text, str | None) and isinstance(ended_by, str | None) and _sound(calls):
                return Piece(text or "", tuple(calls or ()), ended_by, _usage(chunk))
        # The last has the usage alone.
        case ChatCompletionChunk(choices=[] | None):
            return Piece(usage=_usage(chunk))
    raise ValueError(str(chunk))


def _sound(calls: object) -> bool:
    match calls:
        case None:
            return True
        case list():
            return all(
                isinstance(call, ChoiceDeltaToolCall) and isinstance(call.index, int)
                for call in calls
            )
        case _:
            return False


def _usage(chunk: ChatCompletionChunk) -> CompletionUsage | None:
    match chunk.usage:
        case CompletionUsage(prompt_tokens=int(), completion_tokens=int()) as usage:
            return usage
        case _:
            return None
