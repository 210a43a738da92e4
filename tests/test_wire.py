"""The websocket's own backpressure: what nobody takes isn't read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from assistant.serve import listen
from assistant.wire import WebSocketWire

MESSAGES = [bytes([number]) * 1_000_000 for number in range(30)]


class Wire(WebSocketWire):
    """Keeps count of what waits."""

    stuck_s = 10.0
    latest: Wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        Wire.latest, self.most_waiting, self.stopped = self, 0, asyncio.Event()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.most_waiting = max(self.most_waiting, self.queue.qsize())
        if not self.transport.is_reading():
            self.stopped.set()


async def test_reading_stops_while_messages_wait_and_goes_on_when_they_are_taken() -> None:
    taken: list[bytes] = []

    async def application(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await Wire.latest.stopped.wait()
        while len(taken) < len(MESSAGES):
            taken.append((await receive())["bytes"])

    server = uvicorn.Server(
        uvicorn.Config(application, ws=Wire, lifespan="off", log_level="warning")
    )
    with listen("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        port = listener.getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            for message in MESSAGES:
                await client.send(message)
            await client.wait_closed()
        server.should_exit = True
        await serving
    assert taken == MESSAGES
    assert Wire.latest.most_waiting == 2
