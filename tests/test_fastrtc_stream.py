"""FastRTC's clients, by way of its own `/webrtc/offer`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request

import audio_io.rtc_peer
from audio_io import fastrtc_stream
from audio_io.errors import AudioError
from audio_io.fastrtc_stream import FastRtcCalls, fastrtc_available, mount_fastrtc
from audio_io.peer import Peer
from tests.rtc_client import RtcClient

pytestmark = pytest.mark.skipif(
    not fastrtc_available(), reason="pip install 'streaming-voice-assistant[fastrtc]'"
)

NOISE = np.random.default_rng(0).normal(0, 3_000, 16_000).astype(np.int16)
"""One second."""


@dataclass
class Server:
    """A web application that serves FastRTC's clients with an echo of their messages."""

    calls: FastRtcCalls
    web: httpx.AsyncClient
    peers: list[Peer] = field(default_factory=list)
    served: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released once for each connection that has been served to its end."""
    full: bool = False

    async def post(self, **body: object) -> httpx.Response:
        return await self.web.post("/webrtc/offer", json=body)

    async def connect(self, client: RtcClient, webrtc_id: str = "me") -> dict[str, str]:
        response = await self.post(sdp=await client.offer(), type="offer", webrtc_id=webrtc_id)
        assert response.status_code == 200
        await client.accept(response.json()["sdp"])
        return response.json()

    def holds_nothing(self) -> bool:
        stream = self.calls._stream
        registries = stream.pcs, stream.connections, stream.handlers, stream.data_channels
        others = self.calls._calls, stream.connection_timeouts, stream.additional_outputs
        return not any((*registries, *others))


@asynccontextmanager
async def serving(max_connections: int = 2) -> AsyncIterator[Server]:
    """Afterwards, no task is left."""

    async def serve(peer: Peer, _: Request) -> None:
        server.peers.append(peer)
        try:
            if server.full:
                raise ConnectionRefusedError("No session is free.")
            async for message in peer.messages():
                if message == "fail":
                    raise RuntimeError("asked to")
                await peer.send(f"echo {message}")
        finally:
            server.served.release()

    app = FastAPI()
    calls = mount_fastrtc(app, serve, max_connections=max_connections)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as web:
        server = Server(calls, web)
        yield server
        await calls.close()
    assert calls._stream is None or server.holds_nothing()
    async with asyncio.timeout(10):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


async def test_audio_and_text_go_both_ways() -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text", lost={10})
        answer = await server.connect(client)
        assert (answer["type"], answer["call_id"]) == ("answer", server.peers[0].id)
        client.send("hello")
        # Nothing comes before it: FastRTC's own echo is gone.
        assert await client.messages.get() == "echo hello"
        await client.say(NOISE)
        pieces = []
        async for samples, rate in server.peers[0].audio():
            pieces.append((samples.shape, rate, bool(samples.any())))
            if len(pieces) == client.packets_sent - 1:
                break
        expected = [((960, 2), 48_000, True)] * len(pieces)
        expected[10] = ((960, 2), 48_000, False)
        assert pieces[1:] == expected[1:]
        await client.close()
        await server.served.acquire()


async def test_candidates_may_come_after_the_offer() -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text")
        offer = await client.offer(candidates=False)
        answer = (await server.post(sdp=offer, type="offer", webrtc_id="me")).json()
        for line in client.connection.localDescription.sdp.splitlines():
            if line.startswith("a=candidate"):
                candidate = {"candidate": line[2:] + " generation 0", "sdpMid": "0"}
                response = await server.post(
                    candidate=candidate, type="ice-candidate", webrtc_id="me"
                )
                assert response.json() == {"status": "success"}
        await client.accept(answer["sdp"])
        client.send("hello")
        assert await client.messages.get() == "echo hello"
        await client.close()
        await server.served.acquire()


async def test_there_is_no_busy_loop() -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text")
        offer = await client.offer()
        answer = (await server.post(sdp=offer, type="offer", webrtc_id="me")).json()
        handler = server.calls._stream.handlers[answer["call_id"]]
        calls, emit = [], handler.emit

        async def spy() -> None:
            calls.append("emit")
            await emit()

        handler.emit = spy
        await client.accept(answer["sdp"])
        await client.say(NOISE)
        client.send("hello")
        await client.messages.get()
        assert calls == ["emit"]
        await client.close()
        await server.served.acquire()


async def test_the_limit_and_a_known_id_are_refused_until_the_other_call_ends() -> None:
    async with serving(max_connections=1) as server:
        first, second = RtcClient(data_channel="text"), RtcClient(data_channel="text")
        await server.connect(first, "first")
        offer = await second.offer()
        response = await server.post(sdp=offer, type="offer", webrtc_id="second")
        assert (response.status_code, response.json()) == (
            503,
            {"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": 1}},
        )
        response = await server.post(sdp=offer, type="offer", webrtc_id="first")
        assert (response.status_code, response.json()) == (
            409,
            {"status": "failed", "meta": {"error": "connection_already_exists"}},
        )
        await first.close()
        await server.served.acquire()
        await server.peers[0].close()
        await server.connect(second, "first")
        await second.close()


async def test_whoever_serves_may_refuse() -> None:
    async with serving() as server:
        server.full = True
        client = RtcClient(data_channel="text")
        response = await server.post(sdp=await client.offer(), type="offer", webrtc_id="me")
        await client.close()
        assert (response.status_code, response.json()) == (
            503,
            {"status": "failed", "meta": {"error": "No session is free."}},
        )
        assert server.holds_nothing()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"data_channel": None}, "no data channel"), ({"more_audio": True}, "more than one section")],
)
async def test_an_offer_that_fastrtc_cannot_serve_is_refused(
    options: dict[str, object], error: str
) -> None:
    more_audio = options.pop("more_audio", False)
    async with serving() as server:
        client = RtcClient(**options)
        if more_audio:
            client.connection.addTransceiver("audio")
        response = await server.post(sdp=await client.offer(), type="offer", webrtc_id="me")
        await client.close()
        assert response.status_code == 400
        assert response.json()["status"] == "failed"
        assert error in response.json()["meta"]["error"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ('{"type": "offer", "webrtc_id": "me", "sdp": "hello"}', 400, "This is no SDP offer"),
        ('{"type": "offer", "webrtc_id": "me"}', 400, "This is no SDP offer"),
        ('{"type": "offer", "sdp": "hello"}', 400, "webrtc_id: Field required"),
        ('{"type": "answer", "webrtc_id": "me"}', 400, "type: Input should be 'offer' or"),
        ('{"type": "ice-candidate", "webrtc_id": "me"}', 404, "unknown_connection"),
        ("v=0", 400, "Invalid JSON"),
        ("", 400, "Invalid JSON"),
        ("x" * 200_000, 400, "Send at most 131072 bytes"),
    ],
)
async def test_a_body_that_is_no_offer_is_refused(body: str, status: int, error: str) -> None:
    async with serving() as server:
        response = await server.web.post("/webrtc/offer", content=body)
        assert response.status_code == status
        assert response.json()["status"] == "failed"
        assert response.json()["meta"]["error"].startswith(error)


async def test_an_offer_that_breaks_in_fastrtc_is_refused_and_leaves_nothing() -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text")
        offer = (await client.offer()).replace("a=ice-ufrag", "a=ufrag")
        await client.close()
        response = await server.post(sdp=offer, type="offer", webrtc_id="me")
        assert response.status_code == 400
        assert "ICE username" in response.json()["meta"]["error"]
        assert server.holds_nothing()


async def test_none_of_fastrtcs_other_routes_is_there() -> None:
    app = FastAPI(openapi_url=None)
    mount_fastrtc(app, lambda peer, _: asyncio.sleep(0), max_connections=1)
    assert [route.path for route in app.routes] == ["/webrtc/offer"]


async def test_when_serving_fails_the_call_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text")
        await server.connect(client)
        client.send("fail")
        async with asyncio.timeout(10):
            await client.closed.wait()
    assert "RuntimeError: asked to" in caplog.text


async def test_closing_ends_all_calls() -> None:
    async with serving() as server:
        clients = [RtcClient(data_channel="text"), RtcClient(data_channel="text")]
        for i, client in enumerate(clients):
            await server.connect(client, str(i))
        await server.calls.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*(client.closed.wait() for client in clients))
        for client in clients:
            await client.close()


async def test_a_client_that_never_connects_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_io.rtc_peer, "CONNECT_TIMEOUT_S", 0)
    async with serving() as server:
        client = RtcClient(data_channel="text")
        await server.post(sdp=await client.offer(), type="offer", webrtc_id="me")
        async with asyncio.timeout(10):
            await server.served.acquire()
        await client.close()


async def test_a_client_that_connects_but_opens_no_channel_is_let_go() -> None:
    async with serving() as server:
        client = RtcClient(data_channel="text")
        client.channel.transport._data_channel_queue.clear()
        client.channel = None
        offer = await client.offer()
        answer = (await server.post(sdp=offer, type="offer", webrtc_id="me")).json()
        connection = server.calls._stream.pcs[answer["call_id"]]
        changed = asyncio.Event()
        connection.on("connectionstatechange", changed.set)
        await client.accept(answer["sdp"])
        while connection.connectionState != "connected":
            changed.clear()
            await changed.wait()
        # Brought forward, since waiting for it would take ten seconds.
        server.peers[0]._on_deadline()
        async with asyncio.timeout(10):
            await server.served.acquire()
        await client.close()


async def test_without_fastrtc_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastrtc_stream, "fastrtc_available", lambda: False)
    with pytest.raises(AudioError, match=r"pip install 'streaming-voice-assistant\[fastrtc\]'"):
        mount_fastrtc(FastAPI(), lambda peer, _: asyncio.sleep(0), max_connections=1)


@pytest.mark.slow
def test_nothing_is_looked_up_on_the_network() -> None:
    script = """
import asyncio, socket, threading
socket.getaddrinfo = lambda *names, **_: print("looked up", names)
from audio_io import fastrtc_stream
asyncio.run(fastrtc_stream._make_stream(1, ()))
assert threading.active_count() == 1
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")
