"""The two ways to a conversation: what they carry, and why a server can't be talked to."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import groupby
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.server import ServerProtocol

from assistant.config import Config
from assistant.connection import Connection, connect_in_process, connect_to_server, realtime_url
from assistant.engines.engine import Engine
from assistant.errors import ConfigError, EngineError, ServerError
from assistant.prompt import AudioPart
from assistant.serve import find_certificate
from assistant.tasks import race
from assistant.view import Event
from audio_io.errors import DeviceError
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
    said = [event["type"] for event in events if event["type"] != "session.updated"]
    # What the model had said by the end of the turn comes in one piece.
    types = [type_ for type_, _ in groupby(said)]
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
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert [event["text"] for event in events if event["type"].endswith("text.done")] == [
        "Good day."
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


@both
async def test_what_fails_meanwhile_comes_out_as_itself(connecting: Connecting) -> None:
    cause = OSError("no such device")
    with pytest.raises(DeviceError, match="unplugged") as failed:
        async with connecting(AnsweringModel(), Config()):
            raise DeviceError("unplugged") from cause
    assert failed.value.__cause__ is cause


async def test_a_model_that_can_not_be_loaded_is_closed() -> None:
    class Unloadable(AnsweringModel):
        async def start(self) -> None:
            raise EngineError("out of memory")

    model = Unloadable()
    with pytest.raises(EngineError, match="out of memory"):
        async with connect_in_process(model, Config()):
            pass
    assert model.times_closed == 1


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
        ("ws://127.0.0.1:8000/v1", "ws://127.0.0.1:8000/v1/realtime"),
        ("http://desk.local/v1/", "ws://desk.local/v1/realtime"),
        ("ws://anna:secret@desk.local", "ws://anna:secret@desk.local/v1/realtime"),
        ("wss://example.org/behind/proxy#page", "wss://example.org/behind/proxy"),
    ],
)
def test_addresses(written: str, address: str) -> None:
    assert realtime_url(written) == address


@pytest.mark.parametrize(
    "written",
    [
        *["", "127.0.0.1:8000", "ftp://desk", "ws://", "ws://a:b", "ws://a:99999", "ws://[::1"],
        *["ws://a..b", "ws://anna@desk", "ftp://anna:secret@desk", "ws://anna:secret@"],
        "ws://anna:se/c@ret@desk:port",
    ],
)
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of a server; write it like ws://") as no:
        realtime_url(written)
    assert not {"anna", "secret"} & set(re.findall(r"\w+", str(no.value)))


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


async def test_a_password_is_sent_and_never_shown() -> None:
    async with serving(KEYED) as address:
        told = await refusal(f"ws://anna:secret@{address}")
    assert told.startswith(f"ws://{address}/v1/realtime refuses with status 401")
    told = await refusal(f"ws://anna:secret@{address}")
    assert told.startswith(f"ws://{address}/v1/realtime can't be reached")


async def test_a_server_that_wants_a_key() -> None:
    async with serving(KEYED) as address:
        url = f"ws://{address}/v1/realtime"
        assert await refusal(url) == (
            f"{url} refuses with status 401: Send the API key as 'Authorization: Bearer KEY'. "
            "Give the key with --api-key or ASSISTANT_API_KEY."
        )
        assert "Incorrect or expired API key provided." in await refusal(url, api_key="guessed")


async def test_a_server_that_is_full() -> None:
    config = Config.load(overrides={"limits": {"max_sessions": 1}})
    async with serving(config) as address, connect_to_server(f"ws://{address}"):
        told = await refusal(f"ws://{address}")
    assert told.endswith("refuses with status 503: All 1 sessions are taken; try again in a while.")


async def test_a_certificate_of_the_server_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = Config.load(overrides={"server": {"tls_self_signed": True}})
    certificate = find_certificate(config.server)
    assert certificate is not None
    async with serving(config, certificate=certificate) as address:
        told = await refusal(f"wss://{address}")
        assert str(certificate.certificate) in told
        assert "SSL_CERT_FILE" in told
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
        async with connect_to_server(f"wss://{address}"):
            pass
        # And by the other scheme, it is said which is the right one.
        told = await refusal(f"ws://anna:secret@{address}")
    assert told == (
        f"ws://{address}/v1/realtime can't be reached: did not receive a valid HTTP response. "
        f"Is it wss://{address}/v1/realtime there?"
    )


async def test_a_server_without_tls() -> None:
    async with serving() as address:
        told = await refusal(f"wss://{address}")
    assert told.endswith(f"Is it ws://{address}/v1/realtime there?")


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


@pytest.mark.parametrize("said_s", [0.02, 600], ids=["at once", "with sound piled up"])
async def test_a_server_that_hangs_is_soon_left(said_s: float) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        writer.writelines(protocol.data_to_send())
        await writer.drain()
        # Reads nothing, and says nothing any more.
        await left.wait()
        writer.close()

    left = asyncio.Event()
    sound = silence(round(1000 * said_s))
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        # It would be 10 s by default, or until the library misses the answer to a ping.
        async with asyncio.timeout(5):
            async with connect_to_server(f"ws://127.0.0.1:{port}") as connection:
                speaking = asyncio.create_task(connection.hear(sound, SAMPLE_RATE_HZ))
                await asyncio.wait([speaking], timeout=0.1)
                speaking.cancel()
        left.set()


async def test_a_server_that_sends_what_is_no_event() -> None:
    async def babble(websocket: ServerConnection) -> None:
        await websocket.send("hello")
        await websocket.wait_closed()

    async with serve(babble, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect_to_server(f"ws://127.0.0.1:{port}") as connection:
            with pytest.raises(ServerError, match="sent what is no event"):
                await connection.receive(lambda event: None)
