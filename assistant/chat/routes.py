"""`POST /v1/chat/completions`, `GET /v1/models`, and what `transformers chat` needs besides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from assistant.access import error_response
from assistant.chat.completion import Completion
from assistant.chat.kept import KeptConversation, KeptConversations
from assistant.chat.requests import ChatRequest, Item, Said, Sound, parse_request
from assistant.config import Config
from assistant.conversation import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Message,
    Part,
    Prompt,
    TextPart,
)
from assistant.engines.engine import Engine, ReplyEvent, ReplyOptions, Text, ToolCall
from assistant.errors import EngineError, PromptTooLongError, ProtocolError, RefusedError
from assistant.tasks import race
from audio_io.errors import AudioFormatError
from audio_io.parts import in_parts
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.sources import SourceLimits, read_base64, read_url

logger = logging.getLogger(__name__)


def mount_chat(app: FastAPI, config: Config, engine: Engine) -> None:
    """Add the routes to `app`; `engine` must have started before the first request."""
    conversations = KeptConversations(engine, config.chat.max_conversations)
    begun_s = int(time.time())

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        model = {
            "id": engine.info.model,
            "object": "model",
            "created": begun_s,
            "owned_by": "assistant",
            "max_model_len": engine.info.context_tokens,
        }
        return JSONResponse({"object": "list", "data": [model]})

    @app.post("/load_model")
    async def load_model() -> Response:
        # `transformers chat` asks for its model first, and reads how far that is.
        ready = {"status": "ready", "model": engine.info.model, "cached": True}
        return Response(b"data: " + orjson.dumps(ready) + b"\n\n", media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        try:
            body = await _body(request, config.chat.max_request_bytes)
            asked = await asyncio.to_thread(_parsed, body)
            _check(asked, config, engine)
            events = reply_to(asked, conversations, config.files.limits(), engine.info.max_audio_s)
            # What goes wrong before the reply has begun has a status of its own.
            first = await anext(events)
        except Exception as error:
            return _failure(error)
        completion = Completion(
            id=f"chatcmpl-{uuid4().hex}",
            model=engine.info.model,
            created_s=int(time.time()),
            usage_streamed=asked.usage_streamed,
        )
        return ReplyResponse(completion, first, events, streamed=asked.streamed)


async def reply_to(
    asked: ChatRequest,
    conversations: KeptConversations,
    limits: SourceLimits,
    max_audio_s: float,
) -> AsyncGenerator[ReplyEvent]:
    """The reply to a request, in the session that knows the most of its conversation.

    What has been said of it stays known, however it ends. Raises AudioFormatError, RefusedError,
    EngineError.
    """
    async with conversations.take(asked.said) as kept:
        new = asked.said[len(kept.said) :]
        for said, message in zip(
            new, await _messages(new, len(kept.said), limits, max_audio_s), strict=True
        ):
            kept.add(_without_data(said), message)
        prompt = Prompt(tuple(kept.messages), asked.tools, asked.tool_choice)
        reply = kept.session.reply(prompt, ReplyOptions(asked.max_output_tokens))
        texts: list[Text] = []
        calls: list[ToolCall] = []
        try:
            async for event in reply:
                match event:
                    case Text():
                        texts.append(event)
                    case ToolCall():
                        calls.append(event)
                yield event
        finally:
            await reply.cancel()
            _remember(kept, texts, calls)


class ReplyResponse(Response):
    """Sends a reply: piece by piece, or whole. Ends it where the client has gone."""

    def __init__(
        self,
        completion: Completion,
        first: ReplyEvent,
        events: AsyncGenerator[ReplyEvent],
        *,
        streamed: bool,
    ) -> None:
        super().__init__(media_type="text/event-stream" if streamed else "application/json")
        self._completion = completion
        self._first = first
        self._events = events
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            work = self._stream(send) if self._streamed else self._whole(scope, receive, send)
            await race(client=_gone(receive), reply=work)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response
        try:
            self._completion.take(self._first)
            async for event in self._events:
                self._completion.take(event)
            response = JSONResponse(self._completion.whole())
        except Exception as error:
            response = _failure(error)
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_events(send, self._completion.opening())
        await _send_events(send, *self._completion.take(self._first))
        last = b"data: [DONE]\n\n"
        try:
            async for event in self._events:
                await _send_events(send, *self._completion.take(event))
        except Exception as error:
            last = b"data: " + bytes(_failure(error).body) + b"\n\n"
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def _send_events(send: Send, *events: dict[str, object]) -> None:
    body = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ProtocolError(
                f"The request has more than {max_bytes} bytes, the most that is taken.",
                code="request_too_large",
            )
    return bytes(body)


def _parsed(body: bytes) -> ChatRequest:
    try:
        return parse_request(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"The body is not JSON: {error}.", code="invalid_json") from error


def _check(asked: ChatRequest, config: Config, engine: Engine) -> None:
    """Raises ProtocolError for more than a conversation may have, or than the model can do."""
    limits = config.limits
    chars = sum(len(item) for said in asked.said for item in said.items if isinstance(item, str))
    if len(asked.said) > limits.max_messages:
        raise ProtocolError(f"At most {limits.max_messages} messages are taken.", param="messages")
    if chars > limits.max_text_chars:
        raise ProtocolError(
            f"At most {limits.max_text_chars} characters are taken.", param="messages"
        )
    if asked.tools and not engine.info.tools:
        raise ProtocolError(f"{engine.info.model} calls no functions.", param="tools")


async def _messages(
    new: Sequence[Said], number: int, limits: SourceLimits, max_audio_s: float
) -> list[Message]:
    """What was said, as the model is told it; `number`: of the first message."""
    messages = []
    left_s = limits.max_s
    for id_, said in enumerate(new, number):
        parts: list[Part] = []
        for item in said.items:
            match item:
                case str():
                    parts.append(TextPart(item))
                case FunctionCall() | FunctionOutput():
                    parts.append(item)
                case Sound():
                    read = read_url if item.is_url else read_base64
                    recording = await asyncio.to_thread(
                        read, item.data, replace(limits, max_s=left_s)
                    )
                    left_s -= len(recording.samples) / SAMPLE_RATE_HZ
                    pieces = in_parts(recording.samples, max_audio_s)
                    parts += [AudioPart.of(samples) for _, samples in pieces]
        messages.append(Message(f"message_{id_}", said.role, tuple(parts)))
    return messages


def _without_data(said: Said) -> Said:
    items = (replace(item, data="") if isinstance(item, Sound) else item for item in said.items)
    return Said(said.role, tuple(items))


def _remember(kept: KeptConversation, texts: list[Text], calls: list[ToolCall]) -> None:
    """What the reply has said belongs to the conversation, with the tokens that it was made of."""
    if texts:
        text = "".join(piece.text for piece in texts)
        ids = tuple(id_ for piece in texts for id_ in piece.ids)
        _add_reply(kept, text, TextPart(text, ids))
    for call in calls:
        said = FunctionCall(call.call_id, call.name, call.arguments)
        _add_reply(kept, said, replace(said, token_ids=call.ids))


def _add_reply(kept: KeptConversation, said: Item, part: Part) -> None:
    message = Message(f"message_{len(kept.messages)}", "assistant", (part,))
    kept.add(Said("assistant", (said,)), message)


def _failure(error: Exception) -> Response:
    """What became of a request that can't be answered, in the form that OpenAI clients read."""
    match error:
        case ProtocolError():
            status = 413 if error.code == "request_too_large" else 400
            return error_response(status, error.code, str(error))
        case AudioFormatError():
            return error_response(400, "invalid_audio", str(error))
        case PromptTooLongError():
            return error_response(400, "context_length_exceeded", str(error))
        case RefusedError():
            return error_response(503, "server_busy", str(error))
        case EngineError():
            return error_response(500, "model_error", str(error))
        case _:
            logger.exception("a reply failed", exc_info=error)
            return error_response(
                500, "server_error", "The server failed; its log has the details."
            )
