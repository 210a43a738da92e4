"""Requests for replies by DashScope's multimodal generation, and what is streamed for them.

They go through the package's general call. Its call for conversations takes any text of a user
that is the path of a file here for a wish to upload that file.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
from dashscope.client.base_api import BaseAioApi

from assistant.engines.dashscope.models import ModelLimits
from assistant.engines.dashscope.settings import DashScopeSettings
from assistant.engines.dashscope.wire import is_spoken_alone, messages
from assistant.engines.engine import ReplyOptions
from assistant.engines.remote.audio import EncodedAudio
from assistant.engines.remote.estimate import estimated
from assistant.engines.remote.failures import Remedy, ServerFailure, brief, too_long
from assistant.engines.remote.pieces import Piece, ToldUsage
from assistant.errors import EngineError
from assistant.prompt import Prompt

logger = logging.getLogger(__name__)

_TOO_LONG = "range of input length"


class GenerationAsker:
    """An Asker."""

    def __init__(
        self, model: str, limits: ModelLimits, key: str, settings: DashScopeSettings
    ) -> None:
        self._model = model
        self._limits = limits
        self._key = key
        self._settings = settings
        self._audio = EncodedAudio()

    def keep_only(self, prompt: Prompt) -> None:
        self._audio.keep_only(prompt)

    async def ask(
        self, client: aiohttp.ClientSession, server: str, prompt: Prompt, options: ReplyOptions
    ) -> AsyncGenerator[Piece]:
        if not self._limits.voice_chat and is_spoken_alone(prompt):
            raise EngineError(
                f"{self._model} answers a text about audio, and not audio alone. Models for "
                "spoken conversation are qwen-audio-turbo-latest and qwen2-audio-instruct."
            )
        wanted = options.max_output_tokens or self._settings.max_output_tokens
        body = {"messages": messages(prompt, self._audio)}
        request_id = ""
        try:
            responses: Any = await BaseAioApi.call(
                self._model,
                body,
                task_group="aigc",
                task="multimodal-generation",
                function="generation",
                api_key=self._key,
                base_address=self._settings.base_url,
                session=client,
                stream=True,
                incremental_output=True,
                result_format="message",
                max_tokens=min(wanted, self._limits.max_output_tokens),
                **self._settings.parameters | options.sampling,
            )
            async with aclosing(responses):
                async for response in responses:
                    if response.status_code != 200:
                        raise self._refusal(response, server, prompt)
                    if response.request_id and not request_id:
                        request_id = response.request_id
                        # By it, the operators of the service find the request.
                        logger.info("%s answers (request %s).", server, request_id)
                    yield _piece(response)
        except aiohttp.ClientError as error:
            said = brief(str(error)) or type(error).__name__
            raise ServerFailure(
                f"The connection to {server} failed: {said}", Remedy.LATER
            ) from error
        # What the package meets in events that aren't as documented.
        except (KeyError, TypeError, ValueError) as error:
            raise ServerFailure(
                f"{server} sent what can't be read: {brief(str(error))}", Remedy.NONE
            ) from error

    def _refusal(self, response: Any, server: str, prompt: Prompt) -> EngineError:
        status, said = int(response.status_code), str(response.message)
        if status == 400 and _TOO_LONG in said.lower():
            return too_long(said, 0, estimated(prompt), self._limits.max_input_tokens)
        code = f", {response.code}" if response.code else ""
        request = f" (request {response.request_id})" if response.request_id else ""
        why = brief(said) or "it doesn't say why"
        reason = f"{server} refuses with status {status}{code}: {why}{request}"
        again = status == 429 or status >= 500
        return ServerFailure(reason, Remedy.LATER if again else Remedy.NONE)


def _piece(response: Any) -> Piece:
    """Raises ServerFailure where it isn't what is documented."""
    match response.output:
        case {"choices": [{"message": {"content": content}, "finish_reason": reason}, *_]}:
            ended_by = None if reason in (None, "null") else str(reason)
            return Piece(_text(content), ended_by=ended_by, usage=_usage(response.usage))
        case output:
            said = brief(str(output))
            raise ServerFailure(f"The server sent what can't be read: {said}", Remedy.NONE)


def _text(content: Any) -> str:
    match content:
        case str():
            return content
        case list():
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            return "".join(text for text in texts if isinstance(text, str))
        case _:
            return ""


def _usage(usage: Any) -> ToldUsage | None:
    match usage:
        case {"input_tokens": int() as text, "output_tokens": int() as output}:
            # Its input tokens are those of text alone.
            match usage.get("audio_tokens"):
                case int() as audio:
                    return ToldUsage(text + audio, output, audio)
                case _:
                    return ToldUsage(text, output, 0)
        case _:
            return None
