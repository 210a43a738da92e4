"""The Realtime protocol over a websocket: a session of its own, or a view of a running call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, suppress
from typing import NamedTuple

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from assistant.config import LimitsConfig
from assistant.realtime.live import LiveSession
from assistant.realtime.sink import EventSink, SlowClientError
from assistant.tasks import race

logger = logging.getLogger(__name__)

SUBPROTOCOL = "realtime"
# Close codes of RFC 6455, section 7.4.1.
NORMAL_CLOSURE, POLICY_VIOLATION = 1000, 1008


class Farewell(NamedTuple):
    """How a connection is closed."""

    code: int
    reason: str


async def serve_websocket(
    websocket: WebSocket, session: AbstractAsyncContextManager[LiveSession], limits: LimitsConfig
) -> None:
    """Carry a session over this websocket until either has ended. Raises what opening it does."""
    async with session as live:
        farewell = await _converse(websocket, live, limits)
    # The session's place is free by now, since who takes nothing takes no farewell either. Of the
    # two states, one tells that a farewell has come, the other that an event could not be sent.
    if websocket.client_state is websocket.application_state is WebSocketState.CONNECTED:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(limits.send_timeout_s):
                await websocket.close(*farewell)


async def _converse(websocket: WebSocket, live: LiveSession, limits: LimitsConfig) -> Farewell:
    # Browsers close a connection whose offered subprotocol is not echoed; the key is never echoed.
    offered = websocket.scope["subprotocols"]
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    sink = EventSink(
        websocket.send_text,
        max_events=limits.max_pending_events,
        timeout_s=limits.send_timeout_s,
    )
    try:
        with live.attach(sink):
            await race(
                receive=_receive(websocket, live, sink),
                send=sink.run(),
                closed=live.closed(sink),
            )
    except WebSocketDisconnect:
        pass  # The client went while an event was on its way.
    except SlowClientError as slow:
        logger.warning("%s: the client %s", live.id, slow)
        return Farewell(POLICY_VIOLATION, f"The client {slow}.")
    return Farewell(NORMAL_CLOSURE, live.close_reason)


async def _receive(websocket: WebSocket, live: LiveSession, sink: EventSink) -> None:
    while True:
        # Who sends a burst of requests isn't slow, and their answers wait for their turn.
        await sink.room()
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        # Clients send JSON in text frames; in a binary frame it is read just the same.
        await live.receive(message.get("text") or message.get("bytes") or "")
