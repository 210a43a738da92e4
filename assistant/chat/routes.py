"""Chat completions and DashScope's generation over any engine; what their clients need besides."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from assistant.api_errors import error_response
from assistant.chat import dashscope
from assistant.chat.answering import Answerer
from assistant.chat.completion import Completion
from assistant.chat.exchange import Exchange
from assistant.chat.replies import TOO_LARGE, ReplyResponse, failure_of
from assistant.chat.requests import ChatRequest
from assistant.chat.uploads import mount_uploads
from assistant.client_json import MAX_VALUES, parse_json
from assistant.config import Config
from assistant.engines.engine import Engine
from assistant.errors import ProtocolError

VALUES_PER_MESSAGE = 16
"""Fields of a message and its parts; most have six."""


def mount_chat(app: FastAPI, config: Config, engine: Engine) -> None:
    """Add the routes to `app`; `engine` must have started before the first request."""
    answerer = Answerer(config, engine)
    uploads = mount_uploads(app, config)
    begun_s = int(time.time())
    max_values = MAX_VALUES + VALUES_PER_MESSAGE * config.limits.max_messages

    def parsed(exchange: Exchange, body: bytes) -> ChatRequest:
        return exchange.parse(parse_json(body, "The body", max_values=max_values))

    async def answered(request: Request, exchange: Exchange) -> Response:
        try:
            body = await _body(request, config.chat.max_request_bytes)
            # Of megabytes, it takes a while.
            asked = await asyncio.to_thread(parsed, exchange, body)
            # What goes wrong before the reply has begun has a status of its own.
            first, events = await answerer.begin(asked)
        except ClientDisconnect:
            raise
        except Exception as error:
            failure = failure_of(error)
            return JSONResponse(exchange.failed(failure), failure.status)
        return ReplyResponse(exchange, first, events, streamed=asked.streamed)

    def model_object() -> dict[str, Any]:
        return {
            "id": engine.info.model,
            "object": "model",
            "created": begun_s,
            "owned_by": "assistant",
            "max_model_len": engine.info.context_tokens,
            "tools": engine.info.tools,
        }

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model_object()]})

    # Names of models have slashes.
    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name == engine.info.model:
            return JSONResponse(model_object())
        missing = f"The model '{name}' does not exist; '{engine.info.model}' does."
        return error_response(404, "model_not_found", missing, param="model")

    @app.post("/load_model")
    async def load_model() -> Response:
        # `transformers chat` asks for its model first, and reads how far that is.
        ready = {"status": "ready", "model": engine.info.model, "cached": True}
        return Response(b"data: " + orjson.dumps(ready) + b"\n\n", media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        id_ = f"chatcmpl-{uuid4().hex}"
        return await answered(request, Completion(id_, engine.info.model, int(time.time())))

    @app.post(dashscope.PATH)
    async def generation(request: Request) -> Response:
        streamed = request.headers.get("x-dashscope-sse") == "enable"
        exchange = dashscope.Generation(str(uuid4()), streamed, uploads.find)
        return await answered(request, exchange)


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ProtocolError(
                f"The request has more than {max_bytes} bytes, the most that is taken.",
                code=TOO_LARGE,
            )
    return bytes(body)
