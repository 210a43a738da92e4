"""The web application: every route, over one engine, in one process on one port."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from assistant.access import AccessMiddleware, error_response
from assistant.config import Config
from assistant.engines.engine import Engine
from assistant.errors import EngineError, ProtocolError, RefusedError
from assistant.realtime.calls import Calls, open_calls
from assistant.realtime.registry import SessionRegistry
from assistant.realtime.websocket import serve_websocket
from audio_io.errors import PeerError
from audio_io.fastrtc_stream import FastRtcCalls, fastrtc_available, mount_fastrtc
from audio_io.peer import Peer

logger = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
# Browsers' offers, with every codec and candidate, stay under 64 kB.
MAX_OFFER_BYTES = 256 * 1024
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class _BadRequest(Exception):
    """The request can't be understood; the text says why."""


def create_app(config: Config, engine: Engine) -> FastAPI:
    """The application for `engine`, which must have started before the first request."""
    registry = SessionRegistry(engine, config)
    calls: Calls

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal calls
        async with open_calls(registry, config.limits) as calls:
            yield
            if fastrtc is not None:
                await fastrtc.close()

    # No interactive API pages: they load their scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(AccessMiddleware, config=config.server)
    # Outside of the other, which would turn away the questions that browsers ask beforehand.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.server.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Location"],
    )
    app.mount("/web", _PageFiles(directory=WEB))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        # Nobody is there to read it; without it, the log would hold a traceback.
        return Response(status_code=400)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok", "model": engine.info.model})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket, call_id: str | None = None) -> None:
        if call_id is not None:
            if (running := registry.get(call_id)) is not None:
                await serve_websocket(websocket, running, config.limits)
            else:
                unknown = f"There is no call with the id {call_id!r}."
                await websocket.send_denial_response(error_response(404, "call_not_found", unknown))
            return
        try:
            async with registry.open() as live:
                await serve_websocket(websocket, live, config.limits)
        except (RefusedError, EngineError) as error:
            await websocket.send_denial_response(_refused(error))

    @app.post("/v1/realtime/calls")
    async def call(request: Request) -> Response:
        try:
            offer, patch = await _read_offer(request)
            call_id, answer = await calls.answer(offer, patch)
        except (_BadRequest, PeerError) as error:
            return error_response(400, "invalid_offer", str(error))
        except ProtocolError as error:
            return error_response(400, error.code, str(error))
        except (RefusedError, EngineError) as error:
            return _refused(error)
        return Response(
            answer,
            status_code=201,
            media_type="application/sdp",
            headers={"Location": f"/v1/realtime/calls/{call_id}"},
        )

    async def serve_peer(peer: Peer) -> None:
        await calls.serve(peer)

    fastrtc: FastRtcCalls | None = None
    if fastrtc_available():
        fastrtc = mount_fastrtc(app, serve_peer, max_connections=config.limits.max_sessions)
    return app


class _PageFiles(StaticFiles):
    """The page's scripts and styles, never stale and never run as anything else."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        return response


def _refused(error: RefusedError | EngineError) -> Response:
    return error_response(503, "server_busy", str(error))


async def _read_offer(request: Request) -> tuple[str, dict[str, Any]]:
    """The SDP offer and the session settings of a call's request, in either of its two forms.

    Raises _BadRequest.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MAX_OFFER_BYTES:
        raise _BadRequest(f"Send an offer of at most {MAX_OFFER_BYTES} bytes, with its length.")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type == "application/sdp":
        return _text(await request.body()), {}
    if content_type == "multipart/form-data":
        try:
            async with request.form(max_files=2, max_fields=2) as form:
                if "sdp" not in form:
                    raise _BadRequest("The form has no part 'sdp'.")
                offer, settings = form["sdp"], form.get("session", "{}")
                return _text(await _part(offer)), _settings(await _part(settings))
        except MultiPartException as error:
            raise _BadRequest(f"The form can't be read: {error.message}") from error
    raise _BadRequest(
        f"The content type is {content_type!r}; send the offer as application/sdp, or as "
        "multipart/form-data with the parts 'sdp' and 'session'."
    )


async def _part(part: UploadFile | str) -> bytes:
    return await part.read() if isinstance(part, UploadFile) else part.encode()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise _BadRequest("The offer is not text.") from error


def _settings(body: bytes) -> dict[str, Any]:
    try:
        settings = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _BadRequest(f"The part 'session' is not JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise _BadRequest("The part 'session' is not a JSON object.")
    return settings
