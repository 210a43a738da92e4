"""The server as it is run: pages, refusals, odd messages, and clients that vanish."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.typing import Subprotocol

from assistant.config import Config
from assistant.realtime.registry import LEAVING
from assistant.serve import listen, make_server
from tests.protocol import valid
from tests.scripted_engine import ScriptedModel
from tests.server import serving
from tests.test_realtime_session import pcm

pytestmark = pytest.mark.slow

KEYED = Config.load(overrides={"server": {"api_key": "secret"}})


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving(engine=ScriptedModel()) as address:
        yield address


async def sees(websocket: ClientConnection, type_: str) -> dict[str, Any]:
    while True:
        event = valid(json.loads(await websocket.recv()))
        if event["type"] == type_:
            return event


async def settle(address: str, sessions: int) -> None:
    """Wait until so many sessions are open."""
    async with httpx.AsyncClient() as http, asyncio.timeout(10):
        while True:
            metrics = (await http.get(f"http://{address}/metrics")).text
            if f"assistant_sessions {sessions}.0" in metrics:
                return


async def test_the_page_its_parts_and_health(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        page = await http.get("/")
        assert page.status_code == 200 and "<title>" in page.text
        script = await http.get("/web/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        for response in (page, script):
            assert "default-src 'self'" in response.headers["content-security-policy"]
            assert response.headers["x-content-type-options"] == "nosniff"
        assert (await http.get("/health")).json() == {"status": "ok", "model": "scripted"}
        assert (await http.get("/web/../server.py")).status_code == 404
        assert (await http.get("/docs")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({"origin": "https://evil.example"}, "", 403, "origin_not_allowed"),
        ({}, "?call_id=sess_x", 404, "call_not_found"),
    ],
)
async def test_refusals_come_before_the_upgrade_and_say_why(
    address: str,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    query: str,
    status: int,
    code: str,
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://{address}/v1/realtime{query}", additional_headers=headers):
            pass
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body or b"")["error"]["code"] == code
    assert caplog.records == []


async def test_browsers_bring_their_key_as_a_subprotocol_and_it_is_never_echoed() -> None:
    async with serving(KEYED, ScriptedModel()) as address:
        subprotocols = [
            Subprotocol("realtime"),
            Subprotocol("openai-insecure-api-key.secret"),
        ]
        url = f"ws://{address}/v1/realtime"
        async with connect(url, subprotocols=subprotocols) as websocket:
            assert websocket.subprotocol == "realtime"
            await sees(websocket, "session.created")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("hello", "invalid_json"),
        ("", "invalid_json"),
        (b"\x00\xff", "invalid_json"),
        ("[" * 4000, "invalid_json"),
        ('{"type": "x"}', "invalid_value"),
        (
            '{"type": "input_audio_buffer.append", "audio": "%s"}' % ("A" * 5000),
            "message_too_large",
        ),
    ],
)
async def test_odd_messages_are_answered_and_the_session_goes_on(
    message: str | bytes, code: str
) -> None:
    config = Config.load(overrides={"limits": {"max_message_bytes": 4096}})
    async with (
        serving(config, ScriptedModel()) as address,
        connect(f"ws://{address}/v1/realtime") as websocket,
    ):
        await websocket.send(message)
        error = await sees(websocket, "error")
        assert error["error"]["code"] == code
        await websocket.send(b'{"type": "session.update", "session": {}}')
        await sees(websocket, "session.updated")


async def test_what_stands_elsewhere_is_never_fetched(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/private.wav"
        parts: list[dict[str, Any]] = [
            {"type": "input_audio", "audio": url},
            {"type": "input_audio", "audio_url": url},
            {"type": "audio_url", "audio_url": {"url": url}},
            {"type": "input_image", "image_url": url},
        ]
        async with connect(f"ws://{address}/v1/realtime") as websocket:
            for part in parts:
                item = {"type": "message", "role": "user", "content": [part]}
                await websocket.send(json.dumps({"type": "conversation.item.create", "item": item}))
                error = await sees(websocket, "error")
                assert error["error"]["type"] == "invalid_request_error"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


async def test_a_message_far_over_the_limit_closes_the_connection(address: str) -> None:
    async with connect(f"ws://{address}/v1/realtime") as websocket:
        with pytest.raises(ConnectionClosedError) as caught:
            await websocket.send("x" * (17 * 2**20))
            await sees(websocket, "error")
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009


@pytest.mark.parametrize("frames", [[b"\xff"], [b'{"type": "\xc3', b'x"}']])
async def test_text_that_is_none_closes_the_connection_and_leaves_no_traceback(
    address: str, caplog: pytest.LogCaptureFixture, frames: list[bytes]
) -> None:
    async with connect(f"ws://{address}/v1/realtime") as websocket:
        await sees(websocket, "session.created")
        await websocket.send(frames, text=True)
        with pytest.raises(ConnectionClosedError) as caught:
            await websocket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1007, "The text is not UTF-8.")
    await settle(address, 0)
    assert caplog.records == []


async def test_a_character_may_be_spread_over_frames(address: str) -> None:
    async with connect(f"ws://{address}/v1/realtime") as websocket:
        update = '{"type": "session.update", "session": {"instructions": "Größe"}}'.encode()
        await websocket.send([bytes([byte]) for byte in update], text=True)
        event = await sees(websocket, "session.updated")
        assert event["session"]["instructions"] == "Größe"


async def test_a_client_that_vanishes_frees_its_session(address: str) -> None:
    async with connect(f"ws://{address}/v1/realtime") as websocket:
        await sees(websocket, "session.created")
        await settle(address, 1)
        websocket.transport.abort()
    await settle(address, 0)


async def test_a_client_that_does_not_read_is_given_up_and_let_go() -> None:
    limits = {"max_pending_events": 16, "send_timeout_s": 0.1}
    config = Config.load(overrides={"limits": limits})
    async with (
        serving(config, ScriptedModel()) as address,
        connect(f"ws://{address}/v1/realtime", max_queue=1) as websocket,
    ):
        await sees(websocket, "session.created")
        content = [{"type": "input_text", "text": "x" * 60_000}]
        item = {"type": "message", "role": "user", "content": content}
        message = json.dumps({"type": "conversation.item.create", "item": item})

        async def send_on() -> None:
            # Each is answered by two events as large, which nobody reads.
            while True:
                await websocket.send(message)

        # Nothing but a reset connection ends it: what has been sent to us still waits here.
        with pytest.raises(ConnectionClosedError):
            async with asyncio.timeout(30):
                await send_on()
        await settle(address, 0)


async def test_pages_of_allowed_origins_may_call_and_others_may_not() -> None:
    config = Config.load(overrides={"server": {"allowed_origins": ["https://good.example"]}})
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-openai-agents-sdk",
    }
    async with (
        serving(config, ScriptedModel()) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as http,
    ):
        for origin, allowed in (("https://good.example", True), ("https://bad.example", False)):
            headers = {"Origin": origin}
            asked = await http.options("/v1/realtime/calls", headers=headers | asks)
            assert asked.is_success is allowed
            health = await http.get("/health", headers=headers)
            assert health.is_success is allowed
            assert (health.headers.get("access-control-allow-origin") == origin) is allowed
            if allowed:
                assert health.headers["access-control-expose-headers"] == "Location"


async def test_an_upload_that_breaks_off_leaves_no_traceback(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "POST /v1/realtime/calls HTTP/1.1\r\nHost: localhost\r\n"
    head += "Content-Type: application/sdp\r\nContent-Length: 100\r\n\r\nv=0"
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        assert (await http.get("/health")).is_success
    assert caplog.records == []


async def test_a_server_that_is_told_to_end_keeps_its_promise_and_says_why() -> None:
    model = ScriptedModel()
    server = make_server(Config(), model)
    with listen("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/realtime"
        async with connect(url) as websocket:
            input_ = {"turn_detection": None, "transcription": {"model": "any"}}
            for event in (
                {"type": "session.update", "session": {"audio": {"input": input_}}},
                {"type": "input_audio_buffer.append", "audio": pcm(300)},
                {"type": "input_audio_buffer.commit"},
            ):
                await websocket.send(json.dumps(event))
            await sees(websocket, "conversation.item.done")
            leaving = asyncio.create_task(server.leave(20))
            # The turn waits for a reply to be asked for, and then to be written down.
            await model.asked(1)
            assert not leaving.done()
            model.replies[0].says("Hello.")
            model.replies[0].ends()
            kind = "conversation.item.input_audio_transcription.completed"
            assert (await sees(websocket, kind))["transcript"] == "Hello."
            with pytest.raises(ConnectionClosedOK) as caught:
                await websocket.recv()
        await leaving
        await serving
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, LEAVING)
