"""Who may come in: API key, origin and host are checked before any route sees a request.

A web page elsewhere must not be able to talk to a server on one's own machine: its requests carry
its `Origin`, and a name that was re-bound to the server's address shows in `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.api_errors import error_response
from assistant.chat import dashscope
from assistant.config import KEY_PATTERN, LOOPBACK, ServerConfig
from assistant.errors import ConfigError
from assistant.realtime.secrets import ClientSecret, ClientSecrets

KEY_SUBPROTOCOL = "openai-insecure-api-key."
# What the page needs to ask for the key, and what supervisors ask.
OPEN_PATHS = ("/", "/health")
# The latter are as good as a key: only who has one is told them.
OPEN_PREFIXES = ("/web/", "/api/v1/uploads/")
# Whose clients read errors in DashScope's form.
DASHSCOPE_PREFIX = "/api/"
# What a client secret opens: conversations, and those that it knows the id of.
CONVERSATION_PATHS = ("/v1/realtime", "/v1/realtime/calls", "/webrtc/offer")
CONVERSATION_PREFIXES = ("/v1/realtime/calls/",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is turned away."""

    status: int
    code: str
    message: str


class ApiKeys:
    """The server's own keys; without any, everyone may come in."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, presented: str) -> bool:
        # All are compared, each whole: the time tells neither which fits nor how far one does.
        fits = [hmac.compare_digest(presented.encode(), key) for key in self._keys]
        return any(fits)


def read_api_keys(config: ServerConfig) -> ApiKeys:
    """The keys of the settings and of the file that they name. Raises ConfigError."""
    keys = config.api_key.split(",") if config.api_key else []
    if config.api_key_file is not None:
        try:
            lines = config.api_key_file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{config.api_key_file} can't be read: {reason}.") from error
        for number, line in enumerate(map(str.strip, lines), 1):
            if line and not line.startswith("#"):
                if not re.fullmatch(KEY_PATTERN, line):
                    raise ConfigError(
                        f"{config.api_key_file}, line {number}: a key has only letters, digits and "
                        "any of ._~+-"
                    )
                keys.append(line)
        if not keys:
            raise ConfigError(f"{config.api_key_file} holds no keys.")
    return ApiKeys(keys)


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in, and what with."""

    config: ServerConfig
    keys: ApiKeys
    secrets: ClientSecrets

    def check(self, scope: Scope, now_s: float) -> ClientSecret | Refusal | None:
        """Whether this HTTP or websocket request is refused, by its headers alone.

        Otherwise, the client secret that it came in with, if it did. `now_s` is since the epoch.
        """
        headers = Headers(scope=scope)
        if refusal := _check_address(headers, self.config):
            return refusal
        path = scope["path"]
        key = _key(headers, scope.get("subprotocols", []))
        secret = self.secrets.find(key, now_s) if key else None
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
        if is_open or not self.keys or (key is not None and key in self.keys):
            return secret
        if key is None:
            return Refusal(
                401, "missing_api_key", "Send the API key as 'Authorization: Bearer KEY'."
            )
        if secret is None:
            return Refusal(401, "invalid_api_key", "Incorrect or expired API key provided.")
        if path not in CONVERSATION_PATHS and not path.startswith(CONVERSATION_PREFIXES):
            return Refusal(
                403, "insufficient_permissions", "A client secret opens conversations, no more."
            )
        return secret


def _check_address(headers: Headers, config: ServerConfig) -> Refusal | None:
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
    return None


def _host_allowed(host: str, config: ServerConfig) -> bool:
    # Beyond loopback there is a key, which no re-bound page has; names are then anyone's choice.
    if not config.is_local and not config.allowed_hosts and not config.open_to_all:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    # An address can't be re-bound.
    own = name in LOOPBACK or (not config.is_local and _is_address(name))
    return own or name in config.allowed_hosts


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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


def session_wishes(connection: HTTPConnection) -> dict[str, Any]:
    """The session settings of the client secret that this request came in with; often none."""
    secret: ClientSecret | None = getattr(connection.state, "client_secret", None)
    return secret.session if secret else {}


def _turned_away(refusal: Refusal, path: str) -> Response:
    if path.startswith(DASHSCOPE_PREFIX):
        code = "InvalidApiKey" if refusal.status == 401 else "AccessDenied"
        body = dashscope.refusal(code, refusal.message, str(uuid4()))
        return JSONResponse(body, refusal.status)
    return error_response(refusal.status, refusal.code, refusal.message)


class AccessMiddleware:
    """Turns away what the door refuses; websockets before they are upgraded."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        checked = self._door.check(scope, time.time())
        if isinstance(checked, Refusal):
            # On a websocket, Starlette sends the response in place of the upgrade.
            response = _turned_away(checked, scope["path"])
            await response(scope, receive, send)
            return
        # Where `session_wishes` looks.
        scope.setdefault("state", {})["client_secret"] = checked
        await self._app(scope, receive, send)
