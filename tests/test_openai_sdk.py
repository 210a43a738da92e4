"""The openai package, unmodified, in spoken conversation with the server as it is run."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus

from assistant.config import Config
from assistant.engines.engine import EngineInfo, ToolCall
from assistant.prompt import TextPart
from audio_io.pcm import SAMPLE_RATE_HZ
from tests.scripted_engine import ScriptedModel
from tests.sdk_client import conversation
from tests.server import serving
from tests.speech import join, prompt, silence

pytestmark = pytest.mark.slow


async def test_a_spoken_conversation_with_barge_in() -> None:
    async with conversation() as client:
        created = await client.sees("session.created")
        assert created["session"]["output_modalities"] == ["text"]

        # First turn: a person speaks, the reply streams back, and says what it is.
        await client.says(join(silence(500), prompt("hello-world"), silence(1500)))
        first = await client.reply()
        assert "make run MODEL=" in first
        started, stopped = (
            next(e for e in client.events if e["type"].endswith(f"speech_{kind}"))
            for kind in ("started", "stopped")
        )
        assert 0 <= started["audio_start_ms"] <= 500
        length_ms = len(prompt("hello-world")) * 1000 // SAMPLE_RATE_HZ
        assert 0 <= stopped["audio_end_ms"] - 500 - length_ms <= 400
        deltas = [e["delta"] for e in client.events if e["type"].endswith("output_text.delta")]
        assert len(deltas) > 10 and "".join(deltas) == first

        # Second: typed, long, and interrupted by speech.
        await client.types("count to twenty")
        await client.sees("response.output_text.delta")
        await client.says(join(silence(200), prompt("vm-goodbye"), silence(1500)))
        interrupted = await client.sees("response.done")
        assert interrupted["response"]["status"] == "cancelled"
        assert interrupted["response"]["status_details"]["reason"] == "turn_detected"
        heard = [e for e in client.events if e["type"] == "conversation.item.done"][-1]
        assert heard["item"]["status"] == "incomplete"

        # Third: the speech that interrupted is answered; everything is still known.
        assert await client.reply()
        await client.types("what did I say")
        answer = await client.reply()
        assert answer
        usage = client.events[-1]["response"]["usage"]
        assert usage["input_token_details"]["cached_tokens"] > 0
        assert usage["input_token_details"]["audio_tokens"] > 0


async def test_manual_turns_at_16_khz() -> None:
    async with conversation() as client:
        input_ = {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16_000}}
        session = {"type": "realtime", "audio": {"input": input_}}
        await client.send(type="session.update", session=session)
        updated = await client.sees("session.updated")
        assert updated["session"]["audio"]["input"]["turn_detection"] is None
        audio = base64.b64encode(prompt("tt-weasels").tobytes()).decode()
        await client.send(type="input_audio_buffer.append", audio=audio)
        await client.send(type="input_audio_buffer.commit")
        await client.send(type="response.create")
        seconds = len(prompt("tt-weasels")) / SAMPLE_RATE_HZ
        assert f"{seconds:.1f}" in await client.reply()


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "session.create"}, "invalid_value"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter"),
        ({"type": "input_audio_buffer.append", "audio": "!"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_value"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        ({"type": "response.cancel"}, "response_cancel_not_active"),
        ({"type": "session.update", "session": {"voice": 5}}, "unknown_parameter"),
    ],
)
async def test_bad_input_is_answered_and_the_session_goes_on(
    event: dict[str, Any], code: str
) -> None:
    async with conversation() as client:
        await client.send(event_id="mine", **event)
        error = (await client.sees("error"))["error"]
        assert (error["code"], error["event_id"]) == (code, "mine")
        await client.types("hello")
        assert await client.reply()


async def test_a_second_response_is_refused_while_one_runs() -> None:
    async with conversation() as client:
        await client.types("count to twenty")
        await client.sees("response.created")
        await client.send(type="response.create", event_id="mine")
        error = (await client.sees("error"))["error"]
        assert error["code"] == "conversation_already_has_active_response"
        await client.send(type="response.cancel")
        done = await client.sees("response.done")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"


async def test_the_key_is_demanded() -> None:
    config = Config.load(overrides={"server": {"api_key": "secret"}})
    with pytest.raises(InvalidStatus, match="401"):
        async with conversation(config) as client:
            await client.sees("session.created")
    async with conversation(config, api_key="secret") as client:
        await client.sees("session.created")


async def test_at_the_limit_a_session_is_refused_before_the_upgrade() -> None:
    config = Config.load(overrides={"limits": {"max_sessions": 1}})
    async with serving(config) as address:
        sdk = AsyncOpenAI(api_key="none", websocket_base_url=f"ws://{address}/v1")
        async with sdk, sdk.realtime.connect(model="any") as first:
            await first.recv()
            with pytest.raises(InvalidStatus, match="503"):
                async with sdk.realtime.connect(model="any"):
                    pass
        async with (
            asyncio.timeout(10),
            AsyncOpenAI(api_key="none", websocket_base_url=f"ws://{address}/v1") as sdk,
        ):
            # The first has gone; its place is free as soon as the server has noticed.
            while True:
                try:
                    async with sdk.realtime.connect(model="any") as again:
                        await again.recv()
                    return
                except InvalidStatus as error:
                    assert "503" in str(error)


async def test_functions_transcripts_items_and_a_response_beside() -> None:
    model = ScriptedModel()
    model.info = EngineInfo("scripted", 8192, tools=True)
    async with conversation(engine=model) as client:
        tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
        input_ = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
        session = {"type": "realtime", "tools": [tool], "audio": {"input": input_}}
        await client.send(type="session.update", session=session)

        # A spoken turn, written down.
        await client.says(prompt("hello-world"))
        await client.send(type="input_audio_buffer.commit")
        await model.asked(1)
        assert model.replies[0].side and model.replies[0].prompt.task == "transcription"
        model.replies[0].says("Hello", " world.")
        model.replies[0].ends()
        completed = await client.sees("conversation.item.input_audio_transcription.completed")
        await client.send(type="conversation.item.retrieve", item_id=completed["item_id"])
        (heard,) = (await client.sees("conversation.item.retrieved"))["item"]["content"]
        assert heard["transcript"] == completed["transcript"] == "Hello world."

        # Answered by a call, and then with what came of it.
        await client.send(type="response.create")
        await model.asked(2)
        call = ToolCall("call_1", "get_weather", "{}", (1,))
        model.replies[1].script.put_nowait(call)
        model.replies[1].ends()
        called = await client.sees("response.function_call_arguments.done")
        assert (called["name"], called["call_id"]) == ("get_weather", "call_1")
        await client.sees("response.done")
        output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        await client.send(type="conversation.item.create", item=output)
        await client.send(type="response.create")
        await model.asked(3)

        # While that goes on, another answers something else.
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]}
        beside = {"conversation": "none", "input": [item], "metadata": {"topic": "1"}}
        await client.send(type="response.create", response=beside)
        await model.asked(4)
        model.replies[3].says("Beside.")
        model.replies[3].ends()
        done = await client.sees("response.done")
        assert done["response"]["metadata"] == {"topic": "1"}
        model.replies[2].says("It is", " sunny.")
        model.replies[2].ends()
        assert await client.reply() == "It is sunny."

        # Cut to what was heard of it, as LiveKit's agents do.
        id = client.events[-1]["response"]["output"][0]["id"]
        await client.send(type="conversation.item.delete", item_id=id)
        await client.sees("conversation.item.deleted")
        content = [{"type": "output_text", "text": "It is"}]
        item = {"type": "message", "id": id, "role": "assistant", "content": content}
        await client.send(type="conversation.item.create", item=item)
        await client.sees("conversation.item.done")
        await client.send(type="response.create")
        await model.asked(5)
        assert model.replies[4].prompt.messages[-1].parts == (TextPart("It is", (0,)),)
