"""Who may come in: API key, origin and host are checked before any route sees a request.

A web page elsewhere must not be able to talk to a server on one's own machine: its requests carry
its `Origin`, and a name that was re-bound to the loopback address shows in `Host`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.config import LOOPBACK, ServerConfig

KEY_SUBPROTOCOL = "openai-insecure-api-key."
# What the page needs to ask for the key, and what supervisors ask.
OPEN_PATHS = ("/", "/health")
OPEN_PREFIXES = ("/web/",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is turned away."""

    status: int
    code: str
    message: str


def check(scope: Scope, config: ServerConfig) -> Refusal | None:
    """Whether this HTTP or websocket request is refused, by its headers alone."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _host_allowed(host, config):
        return Refusal(
            403,
            "host_not_allowed",
            f"This server is not {host!r}. Add the name to server.allowed_hosts to allow it.",
        )
    origin = headers.get("origin")
    if origin is not None and not _origin_allowed(origin, host, config):
        return Refusal(
            403,
            "origin_not_allowed",
            f"Pages of {origin!r} may not use this server. Add it to server.allowed_origins.",
        )
    path = scope["path"]
    needs_key = path not in OPEN_PATHS and not path.startswith(OPEN_PREFIXES)
    if config.api_key is None or not needs_key:
        return None
    key = _key(headers, scope.get("subprotocols", []))
    if key is None:
        return Refusal(401, "missing_api_key", "Send the API key as 'Authorization: Bearer KEY'.")
    if not secrets.compare_digest(key.encode(), config.api_key.encode()):
        return Refusal(401, "invalid_api_key", "Incorrect API key provided.")
    return None


def _host_allowed(host: str, config: ServerConfig) -> bool:
    # Beyond loopback there is a key, which no re-bound page has; names are then anyone's choice.
    if config.host not in LOOPBACK and not config.allowed_hosts:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in LOOPBACK or name in config.allowed_hosts


def _origin_allowed(origin: str, host: str, config: ServerConfig) -> bool:
    try:
        return urlsplit(origin).netloc == host or origin in config.allowed_origins
    except ValueError:
        return False


def _key(headers: Headers, subprotocols: list[str]) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    # Browsers can't set headers on a websocket, so the API's clients put the key here.
    for subprotocol in subprotocols:
        if subprotocol.startswith(KEY_SUBPROTOCOL):
            return subprotocol.removeprefix(KEY_SUBPROTOCOL)
    return None


def error_response(status: int, code: str, message: str) -> Response:
    """An error in the form that OpenAI clients read."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Response(orjson.dumps({"error": error}), status, media_type="application/json")


class AccessMiddleware:
    """Turns away what `check` refuses; websockets before they are upgraded."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = check(scope, self._config)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        # On a websocket, Starlette sends the response in place of the upgrade.
        response = error_response(refusal.status, refusal.code, refusal.message)
        await response(scope, receive, send)
