"""Requests for replies by chat completions, and what is streamed for them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import (
    Choice,
    ChoiceDelta,
    ChoiceDeltaToolCall,
    ChoiceDeltaToolCallFunction,
)
from openai.types.completion_usage import PromptTokensDetails

from assistant.engines.engine import ReplyOptions
from assistant.engines.openai_compatible.failures import failure_of
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.openai_compatible.wire import Rendering, tool_fields
from assistant.engines.remote.audio import EncodedAudio
from assistant.engines.remote.estimate import estimated
from assistant.engines.remote.pieces import CallPiece, Piece, ToldUsage
from assistant.prompt import Prompt


class ChatAsker:
    """An Asker."""

    def __init__(
        self, model: str, settings: OpenAICompatibleSettings, *, context_tokens: int
    ) -> None:
        self._model = model
        self._settings = settings
        self._context_tokens = context_tokens
        self._audio = EncodedAudio()
        self._rendering = Rendering(settings.audio_as, self._audio)

    def keep_only(self, prompt: Prompt) -> None:
        self._audio.keep_only(prompt)

    async def ask(
        self, client: openai.AsyncOpenAI, server: str, prompt: Prompt, options: ReplyOptions
    ) -> AsyncGenerator[Piece]:
        stream: openai.AsyncStream[ChatCompletionChunk] | None = None
        try:
            stream = await client.chat.completions.create(**self._request(prompt, options))
            async for chunk in stream:
                yield _piece(chunk)
        # JSON that is none is a ValueError.
        except (openai.OpenAIError, ValueError) as error:
            raise failure_of(
                error,
                server,
                now_s=time.time(),
                estimate=estimated(prompt),
                context_tokens=self._context_tokens,
            ) from error
        finally:
            if stream is not None:
                await stream.close()

    def _request(self, prompt: Prompt, options: ReplyOptions) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": self._rendering.messages(prompt),
            **tool_fields(prompt),
            "max_tokens": options.max_output_tokens or self._settings.max_output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": self._settings.extra_body | options.sampling,
        }


def _piece(chunk: ChatCompletionChunk) -> Piece:
    """Raises ValueError where it isn't what its type says: the package checks nothing."""
    match chunk:
        case ChatCompletionChunk(
            choices=[Choice(delta=delta, finish_reason=None | str() as ended_by), *_]
        ):
            match delta:
                case ChoiceDelta(content=None | str() as text, tool_calls=None | [*_] as calls):
                    pieces = tuple(map(_call, calls or ()))
                    return Piece(text or "", pieces, ended_by, _usage(chunk))
                case None:
                    return Piece(ended_by=ended_by, usage=_usage(chunk))
        # The last has the usage alone.
        case ChatCompletionChunk(choices=[] | None):
            return Piece(usage=_usage(chunk))
    raise ValueError(str(chunk))


def _call(call: ChoiceDeltaToolCall) -> CallPiece:
    match call:
        case ChoiceDeltaToolCall(index=int() as index, id=None | str() as id_, function=None):
            return CallPiece(index, id_ or "")
        case ChoiceDeltaToolCall(
            index=int() as index,
            id=None | str() as id_,
            function=ChoiceDeltaToolCallFunction(
                name=None | str() as name, arguments=None | str() as arguments
            ),
        ):
            return CallPiece(index, id_ or "", name or "", arguments or "")
    raise ValueError(str(call))


def _usage(chunk: ChatCompletionChunk) -> ToldUsage | None:
    match chunk.usage:
        case CompletionUsage(
            prompt_tokens=int() as input_,
            completion_tokens=int() as output,
            prompt_tokens_details=PromptTokensDetails(
                audio_tokens=None | int() as audio, cached_tokens=None | int() as cached
            ),
        ):
            return ToldUsage(input_, output, audio, cached or 0)
        case CompletionUsage(prompt_tokens=int() as input_, completion_tokens=int() as output):
            return ToldUsage(input_, output)
        case _:
            return None
