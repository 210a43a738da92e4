"""How a websocket ends whose client has gone without a word."""

from __future__ import annotations

import asyncio
from typing import Any

from assistant.config import Config
from assistant.server import create_app
from tests.scripted_engine import ScriptedModel

SCOPE = {
    "type": "websocket",
    "path": "/v1/realtime",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1")],
    "subprotocols": [],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 2),
}


async def test_it_is_gone_when_an_event_is_on_its_way() -> None:
    asked = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        for message in asked:
            return message
        await asyncio.Event().wait()  # Its farewell never comes.

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise OSError  # As the ASGI specification wants it.

    async with asyncio.timeout(5):
        await create_app(Config(), ScriptedModel())(SCOPE, receive, send)
