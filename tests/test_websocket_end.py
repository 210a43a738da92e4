"""How a websocket ends whose client has gone without a word; and that a burst doesn't end it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from assistant.config import Config
from assistant.realtime.registry import SessionRegistry
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


async def test_a_burst_of_requests_is_answered_whole() -> None:
    update = {"type": "websocket.receive", "text": '{"type": "session.update", "session": {}}'}
    asked = iter([{"type": "websocket.connect"}, *[update] * 100])
    said: list[str] = []
    answered = asyncio.Event()

    async def receive() -> Any:
        # Never lets others run while there is more, as uvicorn.
        for message in asked:
            return message
        await answered.wait()
        return {"type": "websocket.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            await asyncio.sleep(0)
            said.append(orjson.loads(message["text"])["type"])
            if len(said) == 101:
                answered.set()
        elif message["type"] == "websocket.close":
            answered.set()

    config = Config.load(overrides={"limits": {"max_pending_events": 16}})
    async with asyncio.timeout(5):
        await create_app(config, ScriptedModel())(SCOPE, receive, send)
    assert said == ["session.created", *["session.updated"] * 100]


async def test_who_takes_nothing_gives_up_its_place_before_it_is_told() -> None:
    config = Config.load(overrides={"limits": {"send_timeout_s": 0.01, "max_sessions": 1}})
    registry = SessionRegistry(ScriptedModel(), config)
    asked = iter([{"type": "websocket.connect"}])
    left: list[tuple[int, str]] = []

    async def receive() -> Any:
        for message in asked:
            return message
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()  # There is never room for it.
        if message["type"] == "websocket.close":
            async with registry.open():  # The only place.
                left.append((message["code"], message["reason"]))

    async with asyncio.timeout(5):
        await create_app(config, ScriptedModel(), registry)(SCOPE, receive, send)
    assert left == [(1008, "The client took no event for 0.01 s.")]
