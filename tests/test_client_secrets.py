"""Short-lived keys over the wire, asked for and used by stock clients; no key shows in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from assistant.config import Config
from audio_io.fastrtc_stream import fastrtc_available
from tests.protocol import valid
from tests.rtc_client import RtcClient
from tests.scripted_engine import ScriptedModel
from tests.server import serving

pytestmark = pytest.mark.slow

KEY = "sk-local-8c1f"
DEEP_TOOL = b'{"session": {"tools": [{"type": "function", "name": "f", "parameters": %s1%s}]}}' % (
    b'{"a":' * 300,
    b"}" * 300,
)
WISHES = {"type": "realtime", "instructions": "Be brief.", "max_output_tokens": 77}


def keyed(**limits: int) -> Config:
    return Config.load(overrides={"server": {"api_key": KEY}, "limits": limits})


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving(keyed(), ScriptedModel()) as address:
        yield address


def client(address: str, key: str) -> AsyncOpenAI:
    base_url = f"http://{address}/v1"
    websocket_base_url = f"ws://{address}/v1"
    return AsyncOpenAI(
        api_key=key, base_url=base_url, websocket_base_url=websocket_base_url, max_retries=0
    )


async def minted(address: str, **asked: Any) -> str:
    async with client(address, KEY) as sdk:
        return (await sdk.realtime.client_secrets.create(**asked)).value


async def test_the_sdk_asks_for_a_key_and_talks_with_it(address: str) -> None:
    async with client(address, KEY) as sdk:
        created = await sdk.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60}, session=WISHES
        )
    assert created.value.startswith("ek_")
    assert created.session.object == "realtime.session"
    assert (created.session.instructions, created.session.max_output_tokens) == ("Be brief.", 77)
    async with client(address, created.value) as sdk:
        # Good for more than one session.
        for _ in range(2):
            async with sdk.realtime.connect(model="any") as connection:
                session = valid(json.loads(await connection.recv_bytes()))["session"]
                assert (session["instructions"], session["max_output_tokens"]) == ("Be brief.", 77)


async def test_a_browser_brings_it_as_a_subprotocol_and_it_is_not_echoed(address: str) -> None:
    value = await minted(address, session=WISHES)
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{value}")]
    async with connect(f"ws://{address}/v1/realtime", subprotocols=offered) as websocket:
        assert websocket.subprotocol == "realtime"
        assert value not in str(websocket.response.headers)
        session = valid(json.loads(await websocket.recv()))["session"]
        assert session["instructions"] == "Be brief."


async def test_a_call_begins_with_its_settings_and_lays_its_own_over_them(address: str) -> None:
    rtc = RtcClient()
    async with client(address, await minted(address, session=WISHES)) as sdk:

        async def answer(offer: str) -> str:
            own = {"type": "realtime", "instructions": "Be long."}
            return (await sdk.realtime.calls.create(sdp=offer, session=own)).text

        await rtc.connect(answer)
    session = valid(json.loads(await rtc.messages.get()))["session"]
    assert (session["instructions"], session["max_output_tokens"]) == ("Be long.", 77)
    await rtc.close()


@pytest.mark.skipif(
    not fastrtc_available(), reason="pip install 'streaming-voice-assistant[fastrtc]'"
)
async def test_fastrtcs_clients_come_in_with_the_same_keys(address: str) -> None:
    rtc = RtcClient(data_channel="text")
    value = await minted(address, session=WISHES)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http:
        offer = {"type": "offer", "webrtc_id": "me", "sdp": await rtc.offer()}
        refused = await http.post("/webrtc/offer", json=offer)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
        headers = {"Authorization": f"Bearer {value}", "Origin": "https://evil.example"}
        refused = await http.post("/webrtc/offer", json=offer, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
        del headers["Origin"]
        answer = await http.post("/webrtc/offer", json=offer, headers=headers)
    await rtc.accept(answer.json()["sdp"])
    session = valid(json.loads(await rtc.messages.get()))["session"]
    assert session["instructions"] == "Be brief."
    await rtc.close()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"session": {"voice": 1}}', "unknown_parameter"),
        (b'{"session": {"type": "transcription"}}', "invalid_value"),
        (b'{"expires_after": {"seconds": 5}}', "integer_below_min_value"),
        (b"[", "invalid_request"),
        (b"[]", "invalid_request"),
        (DEEP_TOOL, "invalid_request"),
        (b"{" + b" " * 70_000 + b"}", "invalid_request"),
    ],
)
async def test_what_is_no_request_for_a_key_is_refused(
    address: str, content: bytes, code: str
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as http:
        answer = await http.post("/v1/realtime/client_secrets", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_keys_are_asked_for_only_with_the_servers_own(address: str) -> None:
    value = await minted(address)
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        for key, status in (("wrong", 401), (value, 403)):
            headers = {"Authorization": f"Bearer {key}"}
            answer = await http.post("/v1/realtime/client_secrets", headers=headers)
            assert answer.status_code == status


@pytest.mark.parametrize(
    "limits", [{"client_secrets_per_minute": 2}, {"max_client_secrets": 2}], ids=str
)
async def test_who_asks_too_often_is_told_when_to_ask_again(limits: dict[str, int]) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        serving(keyed(**limits), ScriptedModel()) as address,
        httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as http,
    ):
        answers = [await http.post("/v1/realtime/client_secrets") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert answers[0].headers["cache-control"] == "no-store"


async def test_no_key_is_ever_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(keyed(), ScriptedModel()) as address:
        # After the server has set its own levels.
        for name in (None, "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "assistant"):
            caplog.set_level(logging.DEBUG, logger=name)
        keys = [KEY, await minted(address), "sk-wrong", "ek_wrong"]
        url = f"ws://{address}/v1/realtime"
        quiet = logging.Logger("the client's own, which does show them")
        for key in keys:
            by_header = {"additional_headers": {"Authorization": f"Bearer {key}"}}
            protocols = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")]
            for ways in (by_header, {"subprotocols": protocols}):
                try:
                    async with connect(url, logger=quiet, **ways) as websocket:
                        await websocket.recv()
                except InvalidStatus as refused:
                    assert refused.response.status_code == 401
    log = "".join([caplog.text, *capfd.readouterr()])
    assert 'POST /v1/realtime/client_secrets HTTP/1.1" 200 OK' in log
    assert '"WebSocket /v1/realtime" [accepted]' in log
    assert '"WebSocket /v1/realtime" 401' in log
    assert "sess_" in log
    assert [key for key in keys if key in log] == []
