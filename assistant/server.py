"""The web application: every route, over one engine, in one process on one port."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware

from assistant.access import (
    AccessMiddleware,
    Door,
    read_api_keys,
    session_wishes,
)
from assistant.api_errors import error_response, mount_errors
from assistant.bodies import BadRequestError, read_json, read_offer
from assistant.chat.routes import mount_chat
from assistant.config import Config
from assistant.engines.engine import Engine
from assistant.errors import EngineError, ProtocolError, RefusedError, TooManyRequestsError
from assistant.rate_limit import RateLimit
from assistant.realtime.calls import Calls, open_calls
from assistant.realtime.registry import SessionRegistry
from assistant.realtime.secrets import MAX_REQUEST_BYTES, ClientSecretRequest, ClientSecrets
from assistant.realtime.websocket import serve_websocket
from audio_io.errors import PeerError, UnreachableError
from audio_io.fastrtc_stream import FastRtcCalls, fastrtc_available, mount_fastrtc
from audio_io.peer import Peer

logger = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(config: Config, engine: Engine, registry: SessionRegistry | None = None) -> FastAPI:
    """The application for `engine`, which must have started before the first request.

    `registry`: of its sessions, for who wants to end them. Raises ConfigError where the API keys
    can't be read.
    """
    registry = registry or SessionRegistry(engine, config)
    secrets = ClientSecrets(config.limits.max_client_secrets)
    minting = RateLimit(config.limits.client_secrets_per_minute)
    door = Door(config.server, read_api_keys(config.server), secrets)
    calls: Calls

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal calls
        async with open_calls(registry, config) as calls:
            yield
            if fastrtc is not None:
                await fastrtc.close()

    # No interactive API pages: they load their scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(AccessMiddleware, door=door)
    # Outside of the other, which would turn away the questions that browsers ask beforehand.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.server.allowed_origins,
        allow_methods=["GET", "POST"],
        # Clients name themselves in headers of their own, as `X-OpenAI-Agents-SDK`.
        allow_headers=["*"],
        expose_headers=["Location"],
    )
    mount_errors(app)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    @app.get("/health")
    async def health() -> JSONResponse:
        # Whoever spreads conversations over servers is to send this one no more.
        status, code = ("leaving", 503) if registry.leaving else ("ok", 200)
        return JSONResponse({"status": status, "model": engine.info.model}, status_code=code)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    mount_chat(app, config, engine)

    @app.get("/v1/realtime")
    async def without_upgrade() -> Response:
        hint = "Connect to this URL by a websocket, or POST an SDP offer to /v1/realtime/calls."
        return error_response(426, "upgrade_required", hint, headers={"Upgrade": "websocket"})

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket, call_id: str | None = None) -> None:
        if call_id is not None:
            if (running := registry.get(call_id)) is None:
                await websocket.send_denial_response(_no_call(call_id))
            elif running.attached >= config.limits.max_attached:
                full = RefusedError(f"{running.attached} connections read along; that is the most.")
                await websocket.send_denial_response(_refused(full))
            else:
                await serve_websocket(websocket, nullcontext(running), config.limits)
            return
        try:
            session = registry.open(session_wishes(websocket))
            await serve_websocket(websocket, session, config.limits)
        except (RefusedError, EngineError) as error:
            await websocket.send_denial_response(_refused(error))

    @app.post("/v1/realtime/calls")
    async def call(request: Request) -> Response:
        try:
            offer, wishes = await read_offer(request)
            call_id, answer = await calls.answer(offer, session_wishes(request), wishes)
        except (BadRequestError, PeerError) as error:
            return error_response(400, "invalid_offer", str(error))
        except ProtocolError as error:
            return error_response(400, error.code, str(error), param=error.param)
        except (RefusedError, EngineError, UnreachableError) as error:
            return _refused(error)
        return Response(
            answer,
            status_code=201,
            media_type="application/sdp",
            headers={"Location": f"/v1/realtime/calls/{call_id}"},
        )

    @app.post("/v1/realtime/calls/{call_id}/hangup")
    async def hang_up(call_id: str) -> Response:
        return Response() if await calls.hang_up(call_id) else _no_call(call_id)

    @app.post("/v1/realtime/client_secrets")
    async def mint(request: Request) -> Response:
        try:
            minting.take(time.monotonic())
            asked = ClientSecretRequest.parse(await read_json(request, MAX_REQUEST_BYTES))
            session = registry.preview(asked.session)
            value, secret = secrets.mint(asked, time.time())
        except BadRequestError as error:
            return error_response(400, "invalid_request", str(error))
        except ProtocolError as error:
            return error_response(400, error.code, str(error), param=error.param)
        except TooManyRequestsError as error:
            again = {"Retry-After": str(math.ceil(error.retry_after_s))}
            return error_response(429, "rate_limit_exceeded", str(error), headers=again)
        minted = {"value": value, "expires_at": secret.expires_at_s, "session": session}
        return JSONResponse(minted, headers={"Cache-Control": "no-store"})

    @app.websocket("/{path:path}")
    async def no_such_route(websocket: WebSocket) -> None:
        missing = f"Invalid URL (GET {websocket.url.path})"
        await websocket.send_denial_response(error_response(404, None, missing))

    # After the route for websockets, of which it knows nothing.
    app.mount("/web", _PageFiles(directory=WEB))

    async def serve_peer(peer: Peer, request: Request) -> None:
        await calls.serve(peer, session_wishes(request))

    fastrtc: FastRtcCalls | None = None
    if fastrtc_available():
        fastrtc = mount_fastrtc(
            app,
            serve_peer,
            max_connections=config.limits.max_sessions,
            ice_servers=config.webrtc.ice_servers,
        )
    return app


class _PageFiles(StaticFiles):
    """The page's scripts and styles, never stale and never run as anything else."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        return response


def _no_call(call_id: str) -> Response:
    return error_response(404, "call_not_found", f"There is no call with the id {call_id!r}.")


def _refused(error: RefusedError | EngineError | UnreachableError) -> Response:
    return error_response(503, "server_busy", str(error))
