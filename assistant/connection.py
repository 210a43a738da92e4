"""One's own end of a conversation, held on a server or in this process."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from assistant.choice import check_converses
from assistant.config import Config, LimitsConfig
from assistant.engines.engine import Engine
from assistant.errors import ConfigError, ServerError
from assistant.realtime.live import LiveSession
from assistant.realtime.registry import SessionRegistry
from assistant.realtime.sink import EventSink
from assistant.tasks import race
from assistant.tls import state_folder
from assistant.view import Event
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.resampling import Resampler

BASE_PATH = "/v1"
REALTIME_PATH = f"{BASE_PATH}/realtime"
GOODBYE_S = 1.0
"""How long a server may take to say goodbye; one that hangs never does."""
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_AT_16_KHZ = {
    "type": "realtime",
    "audio": {"input": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE_HZ}}},
}


class Connection(Protocol):
    """A conversation to take part in."""

    async def hear(self, samples: Int16Array, sample_rate_hz: int) -> None:
        """Let the assistant hear int16 (n,), at one and the same rate every time."""

    async def receive(self, take: Callable[[Event], None]) -> None:
        """Pass each server event to `take`, from the first; returns when the session has ended.

        Raises ServerError where it broke off.
        """


@asynccontextmanager
async def connect_to_server(url: str, *, api_key: str | None = None) -> AsyncIterator[Connection]:
    """A session of its own on the server at `url`, for as long as the context is open.

    Raises ConfigError for what is no address, ServerError where the server can't be reached or
    refuses.
    """
    address = realtime_url(url)
    shown = _without_password(address)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        # Base64 of sound hardly compresses.
        websocket = await connect(address, additional_headers=headers, compression=None)
    except InvalidStatus as error:
        raise ServerError(_refusal(shown, error)) from error
    except ssl.SSLCertVerificationError as error:
        raise ServerError(
            f"{shown} has a certificate that this machine doesn't trust: "
            f"{error.verify_message}. If it is the server's own, which it keeps in "
            f"{state_folder() / 'self-signed.crt'} on its machine, copy that file here "
            "and name it in the variable SSL_CERT_FILE."
        ) from error
    except (ssl.SSLError, InvalidMessage) as error:
        raise ServerError(
            f"{shown} can't be reached: {_reason(error)}. Is it {_other_scheme(shown)} there?"
        ) from error
    except (OSError, InvalidHandshake) as error:
        raise ServerError(
            f"{shown} can't be reached: {_reason(error)}. Is `assistant serve` running there?"
        ) from error
    remote = _Remote(websocket)
    try:
        await remote.send(type="session.update", session=_AT_16_KHZ)
        yield remote
    finally:
        await remote.close()


@asynccontextmanager
async def connect_in_process(engine: Engine, config: Config) -> AsyncIterator[Connection]:
    """A session in this process, for as long as the context is open.

    Loads `engine` first, and closes it in the end. Raises EngineError.
    """
    try:
        await engine.start()
        check_converses(engine.info)
        async with SessionRegistry(engine, config).open() as live:
            local = _Local(live, config.limits)
            with live.attach(local.sink):
                yield local
    finally:
        await engine.close()


def realtime_url(url: str) -> str:
    """The websocket's address, of what people write for it.

    The address of a page will do, and what OpenAI's SDK calls the base address. Raises ConfigError.
    """
    try:
        parts = urlsplit(url)
        scheme = _SCHEMES[parts.scheme]
        if not parts.hostname or parts.port == 0:
            raise ValueError
        if parts.username is not None and parts.password is None:
            raise ValueError
        # As the look-up of the name will do it.
        parts.hostname.encode("idna")
    except (KeyError, ValueError) as error:
        raise ConfigError(
            # What is left out may hold a password.
            f"{re.sub('(?s).*@', '…@', url)!r} is no address of a server; write it like "
            "ws://127.0.0.1:8000."
        ) from error
    path = REALTIME_PATH if parts.path.rstrip("/") in ("", BASE_PATH) else parts.path
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _other_scheme(address: str) -> str:
    """`address` with TLS where it has none, and the reverse."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(scheme="ws" if parts.scheme == "wss" else "wss"))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or "it doesn't answer")


def _refusal(address: str, error: InvalidStatus) -> str:
    """Why the server at `address` didn't let us in, in its own words where it has some."""
    response = error.response
    try:
        reason = orjson.loads(response.body or b"")["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        reason = response.reason_phrase
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        reason += " Give the key with --api-key or ASSISTANT_API_KEY."
    return f"{address} refuses with status {response.status_code}: {reason}"


class _Remote:
    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._resampler: Resampler | None = None

    async def hear(self, samples: Int16Array, sample_rate_hz: int) -> None:
        self._resampler = self._resampler or Resampler(sample_rate_hz)
        audio = self._resampler.feed(samples).astype("<i2").tobytes()
        if audio:
            await self.send(
                type="input_audio_buffer.append", audio=base64.b64encode(audio).decode()
            )

    async def receive(self, take: Callable[[Event], None]) -> None:
        try:
            # Ends without an exception where the server closes in order.
            async for message in self._websocket:
                take(orjson.loads(message))
        except ConnectionClosed as error:
            reason = (error.rcvd and error.rcvd.reason) or "the server is gone"
            raise ServerError(f"The connection broke off: {reason}.") from error
        except orjson.JSONDecodeError as error:
            raise ServerError(f"The server sent what is no event: {error}.") from error

    async def send(self, **event: object) -> None:
        # That the connection is closed, and why, `receive` tells.
        with suppress(ConnectionClosed):
            await self._websocket.send(orjson.dumps(event).decode())

    async def close(self) -> None:
        # The library's own limit doesn't hold where what was sent before isn't taken either.
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._websocket.close()
        self._websocket.transport.abort()
        await self._websocket.wait_closed()


class _Local:
    def __init__(self, live: LiveSession, limits: LimitsConfig) -> None:
        self._live = live
        self._take: Callable[[Event], None] = lambda event: None
        self.sink = EventSink(
            self._send, max_events=limits.max_pending_events, timeout_s=limits.send_timeout_s
        )

    async def hear(self, samples: Int16Array, sample_rate_hz: int) -> None:
        await self._live.hear(samples, sample_rate_hz)

    async def receive(self, take: Callable[[Event], None]) -> None:
        self._take = take
        await race(send=self.sink.run(), closed=self._live.closed(self.sink))

    async def _send(self, event: str) -> None:
        self._take(orjson.loads(event))
