"""Calls: audio over WebRTC, events on the data channel and on a websocket beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, NotFoundError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assistant.config import Config
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import ModelSession
from audio_io.fastrtc_stream import fastrtc_available
from tests.protocol import valid
from tests.rtc_client import RtcClient
from tests.server import serving
from tests.speech import join, prompt, silence

pytestmark = pytest.mark.slow

SDP = {"content-type": "application/sdp"}


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving() as address:
        yield address


class Call:
    """A client's end of a call."""

    def __init__(self, address: str) -> None:
        self.rtc = RtcClient()
        self.address = address
        self.id = ""

    async def dial(self) -> None:
        await self.rtc.connect(self._post)

    async def _post(self, offer: str) -> str:
        async with httpx.AsyncClient(base_url=f"http://{self.address}") as http:
            answer = await http.post("/v1/realtime/calls", content=offer, headers=SDP)
        assert answer.status_code == 201
        self.id = answer.headers["location"].removeprefix("/v1/realtime/calls/")
        return answer.text

    async def sees(self, type_: str) -> dict[str, Any]:
        """The next event of that type on the data channel."""
        while True:
            event = valid(json.loads(await self.rtc.messages.get()))
            if event["type"] == type_:
                return event


async def text_until_done(websocket: ClientConnection) -> str:
    deltas = []
    async for message in websocket:
        event = valid(json.loads(message))
        if event["type"] == "response.output_text.delta":
            deltas.append(event["delta"])
        if event["type"] == "response.done":
            break
    return "".join(deltas)


async def test_a_spoken_turn_shows_on_the_data_channel_and_beside_it(address: str) -> None:
    call = Call(address)
    await call.dial()
    created = await call.sees("session.created")
    assert created["session"]["id"] == call.id
    async with connect(f"ws://{address}/v1/realtime?call_id={call.id}") as beside:
        assert json.loads(await beside.recv())["session"]["id"] == call.id
        await call.rtc.say(join(silence(500), prompt("hello-world"), silence(1500)))
        done = await call.sees("response.done")
        said = done["response"]["output"][0]["content"][0]["text"]
        assert await text_until_done(beside) == said
        # What is typed on the websocket belongs to the same conversation.
        content = [{"type": "input_text", "text": "count to twenty"}]
        item = {"type": "message", "role": "user", "content": content}
        await beside.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await beside.send(json.dumps({"type": "response.create"}))
        await call.sees("response.output_text.delta")
        call.rtc.channel.send(json.dumps({"type": "response.cancel"}))
        done = await call.sees("response.done")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"
        # When the caller hangs up, the session is over for everyone.
        await call.rtc.close()
        with pytest.raises(ConnectionClosed):
            while True:
                await beside.recv()
    with pytest.raises(InvalidStatus, match="404"):
        async with connect(f"ws://{address}/v1/realtime?call_id={call.id}"):
            pass


async def test_the_sdk_places_calls_with_settings(address: str) -> None:
    rtc = RtcClient()
    async with AsyncOpenAI(api_key="none", base_url=f"http://{address}/v1") as sdk:

        async def answer(offer: str) -> str:
            session = {"type": "realtime", "instructions": "Be brief."}
            response = await sdk.realtime.calls.create(sdp=offer, session=session)
            return response.text

        await rtc.connect(answer)
    created = valid(json.loads(await rtc.messages.get()))
    assert created["session"]["instructions"] == "Be brief."
    await rtc.close()


async def test_the_sdk_hangs_up(address: str) -> None:
    call = Call(address)
    await call.dial()
    async with (
        AsyncOpenAI(api_key="none", base_url=f"http://{address}/v1") as sdk,
        connect(f"ws://{address}/v1/realtime?call_id={call.id}") as beside,
    ):
        await sdk.realtime.calls.hangup(call.id)
        async with asyncio.timeout(10):
            await call.rtc.closed.wait()
            await beside.wait_closed()
        with pytest.raises(NotFoundError, match="There is no call"):
            await sdk.realtime.calls.hangup(call.id)
    await call.rtc.close()


async def test_nobody_hangs_up_on_a_websocket(address: str) -> None:
    async with connect(f"ws://{address}/v1/realtime") as websocket:
        session_id = json.loads(await websocket.recv())["session"]["id"]
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            answer = await http.post(f"/v1/realtime/calls/{session_id}/hangup")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "call_not_found")


async def test_no_more_than_so_many_read_along() -> None:
    config = Config.load(overrides={"limits": {"max_attached": 2}})
    async with serving(config) as address:
        call = Call(address)
        await call.dial()
        url = f"ws://{address}/v1/realtime?call_id={call.id}"
        async with connect(url) as beside:
            await beside.recv()
            with pytest.raises(InvalidStatus, match="503"):
                await connect(url)
        await call.rtc.close()


async def test_what_is_appended_beside_a_call_is_refused(address: str) -> None:
    call = Call(address)
    await call.dial()
    await call.sees("session.created")
    append = {"type": "input_audio_buffer.append", "event_id": "mine", "audio": "AAAA"}
    call.rtc.send(json.dumps(append))
    error = (await call.sees("error"))["error"]
    assert (error["event_id"], "comes over WebRTC" in error["message"]) == ("mine", True)
    async with connect(f"ws://{address}/v1/realtime?call_id={call.id}") as beside:
        await beside.send(json.dumps(append))
        assert (await call.sees("error"))["error"] == error
    await call.rtc.close()


async def test_at_the_limit_a_call_is_refused() -> None:
    config = Config.load(overrides={"limits": {"max_sessions": 1}})
    async with (
        serving(config) as address,
        connect(f"ws://{address}/v1/realtime") as websocket,
        httpx.AsyncClient(base_url=f"http://{address}") as http,
    ):
        await websocket.recv()
        rtc = RtcClient()
        answer = await http.post("/v1/realtime/calls", content=await rtc.offer(), headers=SDP)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
        await rtc.close()


class Broken(EmbeddedEngine):
    async def open_session(self) -> ModelSession:
        raise ValueError("unheard of")


async def test_a_fault_of_ours_is_told_as_one() -> None:
    engine = Broken(Config().model.embedded)
    async with (
        serving(engine=engine) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as http,
    ):
        rtc = RtcClient()
        answer = await http.post("/v1/realtime/calls", content=await rtc.offer(), headers=SDP)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
        await rtc.close()
        assert "assistant_sessions 0.0" in (await http.get("/metrics")).text


@pytest.mark.skipif(
    not fastrtc_available(), reason="pip install 'streaming-voice-assistant[fastrtc]'"
)
async def test_the_id_that_fastrtcs_client_chose_opens_nothing(address: str) -> None:
    rtc = RtcClient(data_channel="text")
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http:
        offer = {"type": "offer", "webrtc_id": "guessable", "sdp": await rtc.offer()}
        answer = (await http.post("/webrtc/offer", json=offer)).json()
        await rtc.accept(answer["sdp"])
        with pytest.raises(InvalidStatus, match="404"):
            await connect(f"ws://{address}/v1/realtime?call_id=guessable")
        hang_up = await http.post("/v1/realtime/calls/guessable/hangup")
        assert hang_up.status_code == 404
        # Neither is the call taken over by an offer of the same name.
        other = RtcClient(data_channel="text")
        again = await http.post("/webrtc/offer", json=offer | {"sdp": await other.offer()})
        assert (again.status_code, set(again.json())) == (409, {"status", "meta"})
        await other.close()
        # The id that the server chose opens it: to read along, and to hang up.
        url = f"ws://{address}/v1/realtime?call_id={answer['call_id']}"
        async with connect(url) as beside:
            session = valid(json.loads(await beside.recv()))["session"]
            assert session["id"] == answer["call_id"] != "guessable"
            hang_up = await http.post(f"/v1/realtime/calls/{answer['call_id']}/hangup")
            assert hang_up.status_code == 200
            await beside.wait_closed()
    await rtc.close()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"content": "hello", "headers": SDP}, "invalid_offer"),
        ({"content": "", "headers": SDP}, "invalid_offer"),
        ({"content": b"\xff\xfe", "headers": SDP}, "invalid_offer"),
        ({"content": "x" * 300_000, "headers": SDP}, "invalid_offer"),
        ({"content": "v=0"}, "invalid_offer"),
        ({"json": {"sdp": "v=0"}}, "invalid_offer"),
        ({"files": {"session": "{}"}}, "invalid_offer"),
        ({"files": {"sdp": "v=0", "session": "{"}}, "invalid_offer"),
        ({"files": {"sdp": "v=0", "session": "[]"}}, "invalid_offer"),
        ({"files": {"sdp": "v=0", "session": '{"voice": 1}'}}, "unknown_parameter"),
    ],
)
async def test_what_is_no_offer_is_refused(
    address: str, request_: dict[str, Any], code: str
) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        answer = await http.post("/v1/realtime/calls", **request_)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]
        health = await http.get("/health")
        assert health.status_code == 200
        metrics = await http.get("/metrics")
        assert "assistant_sessions 0.0" in metrics.text


async def test_a_caller_who_vanishes_frees_everything(address: str) -> None:
    call = Call(address)
    await call.dial()
    await call.rtc.say(join(silence(300), prompt("hello-world")))
    await call.sees("input_audio_buffer.speech_started")
    async with connect(f"ws://{address}/v1/realtime?call_id={call.id}") as beside:
        await call.rtc.close()
        async with asyncio.timeout(30):
            await beside.wait_closed()
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        assert "assistant_sessions 0.0" in (await http.get("/metrics")).text
