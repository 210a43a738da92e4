"""The two ways to a conversation: what they carry, and why a server can't be talked to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from assistant.config import Config
from assistant.connection import Connection, connect_in_process, connect_to_server, realtime_url
from assistant.conversation import AudioPart
from assistant.engines.engine import Engine
from assistant.errors import ConfigError, ServerError
from assistant.tasks import race
from assistant.view import Event
from audio_io.pcm import SAMPLE_RATE_HZ
from tests.answering_engine import AnsweringModel
from tests.server import serving
from tests.speech import at_rate, in_chunks, join, prompt, silence

pytestmark = pytest.mark.slow

KEYED = Config.load(overrides={"server": {"api_key": "secret"}})


@asynccontextmanager
async def connect_over_the_wire(engine: Engine, config: Config) -> AsyncIterator[Connection]:
    async with (
        serving(config, engine) as address,
        connect_to_server(f"ws://{address}", api_key=config.server.api_key) as connection,
    ):
        yield connection


Connecting = Callable[[Engine, Config], AbstractAsyncContextManager[Connection]]
both = pytest.mark.parametrize("connecting", [connect_over_the_wire, connect_in_process])


@both
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
async def test_a_turn(connecting: Connecting, rate_hz: int) -> None:
    model = AnsweringModel(["Good", " day."])
    sound = at_rate(join(silence(300), prompt("hello-world"), silence(1500)), rate_hz)
    events: list[Event] = []
    done = asyncio.Event()

    def take(event: Event) -> None:
        events.append(event)
        if event["type"] == "response.done":
            done.set()

    async with connecting(model, KEYED) as connection:

        async def speak() -> None:
            for chunk in in_chunks(sound, rate_hz // 50):
                await connection.hear(chunk, rate_hz)
            await done.wait()

        await race(speak=speak(), receive=connection.receive(take))
    types = [event["type"] for event in events if event["type"] != "session.updated"]
    assert types == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    # What the model heard is as long as what was said, with what is kept around it.
    (heard,) = (
        part for part in model.replies[-1].prompt.messages[-1].parts if isinstance(part, AudioPart)
    )
    said_s = len(prompt("hello-world")) / SAMPLE_RATE_HZ
    assert 0 <= len(heard.samples) / SAMPLE_RATE_HZ - said_s <= 0.8


@both
async def test_a_session_that_ends_by_itself(connecting: Connecting) -> None:
    config = Config.load(overrides={"limits": {"max_session_s": 1}})
    events: list[Event] = []
    async with connecting(AnsweringModel(), config) as connection:
        await connection.receive(events.append)
    assert events[0]["type"] == "session.created"
    assert events[-1]["error"]["code"] == "session_expired"


async def test_in_process_the_engine_is_started_and_closed() -> None:
    model = AnsweringModel()
    async with connect_in_process(model, Config()):
        assert (model.times_started, model.times_closed) == (1, 0)
    assert (model.times_started, model.times_closed) == (1, 2)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/v1/realtime"),
        ("ws://desk.local/", "ws://desk.local/v1/realtime"),
        ("http://127.0.0.1:8000/", "ws://127.0.0.1:8000/v1/realtime"),
        ("https://[::1]:8443", "wss://[::1]:8443/v1/realtime"),
        ("wss://example.org/v1/realtime?model=any", "wss://example.org/v1/realtime?model=any"),
        ("wss://example.org/behind/proxy#page", "wss://example.org/behind/proxy"),
    ],
)
def test_addresses(written: str, address: str) -> None:
    assert realtime_url(written) == address


@pytest.mark.parametrize(
    "written",
    ["", "127.0.0.1:8000", "ftp://desk", "ws://", "ws://a:b", "ws://a:99999", "ws://[::1"],
)
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of a server; write it like ws://"):
        realtime_url(written)


async def refusal(url: str, api_key: str | None = None) -> str:
    with pytest.raises(ServerError) as refused:
        async with connect_to_server(url, api_key=api_key):
            pass
    return str(refused.value)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await refusal(f"ws://127.0.0.1:{port}") == (
        f"ws://127.0.0.1:{port}/v1/realtime can't be reached: Connect call failed "
        f"('127.0.0.1', {port}). Is `assistant serve` running there?"
    )


async def test_a_server_that_wants_a_key() -> None:
    async with serving(KEYED) as address:
        url = f"ws://{address}/v1/realtime"
        assert await refusal(url) == (
            f"{url} refuses with status 401: Send the API key as 'Authorization: Bearer KEY'. "
            "Give the key with --api-key or ASSISTANT_API_KEY."
        )
        assert "Incorrect API key provided." in await refusal(url, api_key="guessed")


async def test_a_server_that_is_full() -> None:
    config = Config.load(overrides={"limits": {"max_sessions": 1}})
    async with serving(config) as address, connect_to_server(f"ws://{address}"):
        told = await refusal(f"ws://{address}")
    assert told.endswith("refuses with status 503: All 1 sessions are taken; try again in a while.")


async def test_a_server_of_another_kind() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "can't be reached: did not receive a valid HTTP response" in await refusal(
            f"ws://127.0.0.1:{port}"
        )
        assert "can't be reached: [SSL" in await refusal(f"wss://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("farewell", "told"),
    [
        ((1012, "restarting"), "The connection broke off: restarting."),
        ((1011, ""), "The connection broke off: the server is gone."),
        (None, "The connection broke off: the server is gone."),
    ],
)
async def test_a_server_that_goes(farewell: tuple[int, str] | None, told: str) -> None:
    async def leave(websocket: ServerConnection) -> None:
        await websocket.send('{"type": "session.created"}')
        if farewell:
            await websocket.close(*farewell)
        else:
            websocket.transport.abort()

    events: list[Event] = []
    async with serve(leave, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect_to_server(f"ws://127.0.0.1:{port}") as connection:
            with pytest.raises(ServerError) as gone:
                await connection.receive(events.append)
            # Who speaks on is not told a second time.
            await connection.hear(silence(20), SAMPLE_RATE_HZ)
    assert str(gone.value) == told
    assert [event["type"] for event in events] == ["session.created"]


async def test_a_server_that_sends_what_is_no_event() -> None:
    async def babble(websocket: ServerConnection) -> None:
        await websocket.send("hello")
        await websocket.wait_closed()

    async with serve(babble, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect_to_server(f"ws://127.0.0.1:{port}") as connection:
            with pytest.raises(ServerError, match="sent what is no event"):
                await connection.receive(lambda event: None)
