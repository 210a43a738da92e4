"""Engines behind servers, whatever those send and however they fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.engines.engine import Finished, ReplyEvent, ReplyOptions, Text
from assistant.engines.openai_compatible.asking import ChatAsker
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.listing import listed
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.remote.servers import Seat, Server
from assistant.engines.remote.session import RemoteSession
from assistant.errors import EngineError
from tests.chat_server import chat_server
from tests.dialogue import prompt, user

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
# Halves of characters too, which JSON can hold.
halves = st.text(st.characters(exclude_categories=()))
calls = st.lists(
    st.fixed_dictionaries(
        {"index": st.integers(0, 2) | anything},
        optional={
            "id": st.text() | anything,
            "function": st.fixed_dictionaries(
                {}, optional={"name": st.text() | anything, "arguments": st.text() | anything}
            )
            | anything,
        },
    )
    | anything,
    max_size=2,
)
choice = st.fixed_dictionaries(
    {},
    optional={
        "delta": st.fixed_dictionaries(
            {}, optional={"content": halves | anything, "tool_calls": calls | anything}
        )
        | anything,
        "finish_reason": st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
        | anything,
    },
)
event = (
    st.fixed_dictionaries(
        {},
        optional={
            "choices": st.lists(choice | anything, max_size=2) | anything,
            "usage": st.fixed_dictionaries(
                {},
                optional={
                    "prompt_tokens": st.integers(0, 99) | anything,
                    "completion_tokens": st.integers(0, 99) | anything,
                    "prompt_tokens_details": anything
                    | st.fixed_dictionaries(
                        {}, optional={"cached_tokens": anything, "audio_tokens": anything}
                    ),
                },
            )
            | anything,
        },
    )
    | anything
)
model = st.fixed_dictionaries(
    {"id": st.text() | anything},
    optional={
        "max_model_len": anything,
        "meta": st.fixed_dictionaries({"n_ctx": anything}) | anything,
    },
)
lines = st.lists(event.map(json.dumps) | st.text(), max_size=5)


@settings(max_examples=150, deadline=None)
@given(lines)
def test_whatever_a_server_sends_a_reply_ends_or_fails(lines: list[str]) -> None:
    body = "".join(f"data: {line}\n\n" for line in lines).encode(errors="replace")

    def answered(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    async def replied() -> list[ReplyEvent]:
        transport = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answered))
        async with openai.AsyncOpenAI(
            api_key="none", base_url="http://host/v1", http_client=transport, max_retries=0
        ) as client:
            options = OpenAICompatibleSettings(max_retries=0)
            asker = ChatAsker("parrot", options, context_tokens=8192)
            session = RemoteSession(Seat([Server("host", client)]), asker, options)
            reply = session.reply(prompt(user("Hi")), ReplyOptions())
            events = [event async for event in reply]
            await session.close()
            return events

    try:
        events = asyncio.run(replied())
    except EngineError:
        return
    assert isinstance(events[-1], Finished)
    # What is said can be passed on.
    "".join(event.text for event in events if isinstance(event, Text)).encode()


@given(anything | st.fixed_dictionaries({"data": st.lists(model | anything)}))
def test_whatever_a_server_lists(told: object) -> None:
    try:
        models = listed(told)
    except ValueError:
        return
    assert all(model.id and (model.context_tokens or 2) > 1 for model in models)


FAILURES: list[dict[str, Any]] = [
    {},
    {"status": 500, "error": {}},
    {"status": 429, "error": {}, "headers": {"retry-after": "0"}},
    {"status": 400, "error": {"error": {"message": "no"}}},
    {"then": "cuts"},
    {"then": "closes"},
]


async def test_many_conversations_with_servers_that_fail_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assistant.engines.remote.servers.FIRST_REST_S", 0.001)
    monkeypatch.setattr("assistant.engines.remote.servers.MAX_REST_S", 0.002)
    async with chat_server() as first, chat_server() as second:
        for number in range(60):
            texts = ("Well", ".") if number % 2 else ()
            first.will(*texts, **FAILURES[number % 6])
            second.will(*texts, **FAILURES[number % 5])
        settings = OpenAICompatibleSettings(base_urls=(first.base_url, second.base_url))
        engine = OpenAICompatibleEngine("parrot", settings)
        await engine.start()

        async def converse(number: int) -> list[bool]:
            session = await engine.open_session()
            succeeded = []
            for turn in range(6):
                about = prompt(user(f"I am {number} in turn {turn}."))
                reply = session.reply(about, ReplyOptions(speculative=turn % 3 == 1))
                try:
                    last = [event async for event in reply][-1]
                    succeeded.append(isinstance(last, Finished))
                except EngineError:
                    succeeded.append(False)
            await session.close()
            return succeeded

        outcomes = await asyncio.gather(*map(converse, range(12)))
        assert {succeeded for outcome in outcomes for succeeded in outcome} == {True, False}
        # The servers have run out of failures: all is well again.
        first.answers.clear()
        second.answers.clear()
        assert await converse(0) == [True] * 6
        assert {server.conversations for server in engine._servers} == {0}
        await engine.close()
