"""A model behind a server, spoken with over the Realtime protocol by the `openai` package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from tests.chat_server import ChatServer, chat_server
from tests.sdk_client import Conversation, conversation
from tests.server import serving
from tests.speech import join, prompt, silence

pytestmark = pytest.mark.slow


@asynccontextmanager
async def spoken_with() -> AsyncIterator[tuple[Conversation, ChatServer]]:
    async with chat_server() as server:
        settings = OpenAICompatibleSettings(base_urls=(server.base_url,))
        engine = OpenAICompatibleEngine("parrot", settings)
        async with conversation(engine=engine) as client:
            yield client, server


def audio_s(request: dict[str, Any]) -> list[float]:
    """How long the audio of each user's message is, about."""
    contents = [m["content"] for m in request["messages"] if m["role"] == "user"]
    return [
        round(len(content[0]["input_audio"]["data"]) * 3 / 4 / 32_000, 1) for content in contents
    ]


async def test_a_server_that_dies_in_mid_reply_and_the_conversation_goes_on() -> None:
    async with spoken_with() as (client, server):
        server.will("Once upon", " a time", then="cuts")
        await client.types("Tell me a story.")
        done = await client.sees("response.done")
        assert done["response"]["status"] == "failed"
        assert (
            "The connection to 127.0.0.1" in done["response"]["status_details"]["error"]["message"]
        )
        details = {"cached_tokens": 48}
        usage = {"prompt_tokens": 60, "completion_tokens": 9, "total_tokens": 69}
        server.will("there was", usage={**usage, "prompt_tokens_details": details})
        await client.types("Go on.")
        done = await client.sees("response.done")
        assert done["response"]["usage"]["input_tokens"] == 60
        assert done["response"]["usage"]["input_token_details"]["cached_tokens"] == 48
        # What was heard of the broken reply is part of the conversation.
        assert server.requests[1]["messages"] == [
            {"role": "user", "content": "Tell me a story."},
            {"role": "assistant", "content": "Once upon a time"},
            {"role": "user", "content": "Go on."},
        ]


async def test_the_request_goes_out_in_the_pause_and_its_tokens_are_used() -> None:
    async with spoken_with() as (client, server):
        server.will("Hello", " yourself.")
        await client.says(join(prompt("hello-world"), silence(350)))
        await server.asked(1)
        # The turn isn't over: nothing of the reply has been shown, nor that there is one.
        await client.says(silence(600))
        assert await client.reply() == "Hello yourself."
        assert len(server.requests) == 1
        types = [event["type"] for event in client.events]
        assert types.index("input_audio_buffer.committed") < types.index("response.created")
        assert client.events[-1]["response"]["metadata"]["latency.speculation"] == "hit"


async def test_speech_that_resumes_aborts_the_request() -> None:
    async with spoken_with() as (client, server):
        server.will("I", " think", then="stalls")
        await client.says(join(prompt("hello-world"), silence(350)))
        await server.asked(1)
        await client.says(join(prompt("digits/7"), prompt("hello-world"), silence(1000)))
        assert await client.reply() == "Hello."
        await server.was_left(1)
        first, *_, last = [audio_s(request) for request in server.requests]
        assert len(first) == len(last) == 1 and last[0] > first[0] + 1


async def test_barge_in_aborts_the_request() -> None:
    async with spoken_with() as (client, server):
        server.will("One,", " two,", then="stalls")
        await client.says(join(prompt("hello-world"), silence(1000)))
        await client.sees("response.output_text.delta")
        await client.says(join(prompt("demo-congrats")[:48_000], silence(1000)))
        done = await client.sees("response.done")
        assert done["response"]["status_details"]["reason"] == "turn_detected"
        assert done["response"]["usage"]["output_tokens"] == 2
        await server.was_left(1)
        assert await client.reply() == "Hello."
        assert server.requests[-1]["messages"][1] == {"role": "assistant", "content": "One, two,"}


async def test_a_conversation_that_is_too_long_is_shortened_and_asked_again() -> None:
    async with spoken_with() as (client, server):
        for text in ("One", "Two", "Three"):
            await client.types(text)
            await client.sees("response.done")
        error = {"error": {"message": "too long", "code": "context_length_exceeded"}}
        server.will(status=400, error=error)
        await client.types("Four")
        assert await client.reply() == "Hello."
        asked = [message["content"] for message in server.requests[-1]["messages"]]
        assert asked[0] != "One" and asked[-1] == "Four"


async def test_our_own_routes_serve_our_own_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dashscope", reason="needs the package: pip install dashscope")
    from assistant.engines.dashscope.engine import DashScopeEngine
    from assistant.engines.dashscope.settings import DashScopeSettings

    embedded = EmbeddedEngine(EmbeddedSettings(words=False, tokens_per_s=10_000))
    async with serving(engine=embedded) as address:
        monkeypatch.setenv("DASHSCOPE_API_KEY", "any")
        for engine in (
            OpenAICompatibleEngine(
                None, OpenAICompatibleSettings(base_urls=(f"http://{address}/v1",))
            ),
            DashScopeEngine(None, DashScopeSettings(base_url=f"http://{address}/api/v1")),
        ):
            async with conversation(engine=engine) as client:
                usages = []
                for _ in range(3):
                    await client.says(join(prompt("hello-world"), silence(1000)))
                    assert "seconds of a voice" in await client.reply()
                    usages.append(client.events[-1]["response"]["usage"])
                assert usages[2]["input_tokens"] > usages[1]["input_tokens"] > 30
                assert usages[2]["input_token_details"]["audio_tokens"] > 60
                if isinstance(engine, OpenAICompatibleEngine):
                    # Found again by its content, though it came by another server.
                    cached = usages[2]["input_token_details"]["cached_tokens"]
                    assert cached >= usages[1]["input_tokens"]
