"""A model behind servers: what is sent, what comes of it, and what may go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from assistant.engines.engine import (
    Finished,
    ModelSession,
    PrefillReport,
    Reply,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.engines.openai_compatible.engine import (
    ASSUMED_CONTEXT_TOKENS,
    OpenAICompatibleEngine,
)
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.remote.answer import MAX_TOKEN_CHARS
from assistant.engines.remote.failures import retry_after_s
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Message, OneTool, Prompt, Tool
from tests.chat_server import Answer, ChatServer, chat_server
from tests.dialogue import assistant, prompt, system, user
from tests.speech import silence

QUESTION = prompt(user("Are you there?"))


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as server:
        yield server


@asynccontextmanager
async def engine_for(*servers: ChatServer, **given: Any) -> AsyncIterator[OpenAICompatibleEngine]:
    urls = tuple(server.base_url for server in servers)
    engine = OpenAICompatibleEngine("parrot", OpenAICompatibleSettings(base_urls=urls, **given))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def session_with(*servers: ChatServer, **given: Any) -> AsyncIterator[ModelSession]:
    async with engine_for(*servers, **given) as engine:
        session = await engine.open_session()
        yield session
        await session.close()


async def events_of(reply: Reply) -> list[ReplyEvent]:
    return [event async for event in reply]


async def text_of(reply: Reply) -> str:
    return "".join([event.text async for event in reply if isinstance(event, Text)])


def ask(session: ModelSession, about: Prompt = QUESTION, **options: Any) -> Reply:
    return session.reply(about, ReplyOptions(**options))


def call_piece(arguments: str) -> dict[str, Any]:
    """An event of a stream: some of a function call."""
    call = {"index": 0, "id": "call", "function": {"name": "", "arguments": arguments}}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


# What is sent, and what comes of it.


async def test_a_reply_in_pieces(server: ChatServer) -> None:
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 3,
        "total_tokens": 43,
        "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 30},
    }
    server.will("", "Yes", ", I", " am.", usage=usage)
    async with session_with(server) as session:
        started, *texts, finished = await events_of(ask(session))
    estimate = TokenCount(text=round((len("Are you there?") + 20) / 4))
    assert started == Started(PrefillReport(estimate, reused=TokenCount()))
    assert texts == [Text("Yes", ()), Text(", I", ()), Text(" am.", ())]
    assert isinstance(finished, Finished) and finished.reason == "stop"
    assert finished.usage == Usage(TokenCount(10, 30), TokenCount(5, 15), output_tokens=3)
    timings = finished.timings
    assert 0 < timings.prefill_ms <= timings.first_token_ms <= timings.total_ms


async def test_a_conversation_on_the_wire(server: ChatServer) -> None:
    said = np.arange(800, dtype=np.int16)
    about = prompt(
        system("Be brief."),
        user(said),
        assistant("A ramp."),
        user("And this?", said),
    )
    async with session_with(server, extra_body={"temperature": 0}) as session:
        await events_of(ask(session, about, max_output_tokens=7))
    (request,) = server.requests
    data = request["messages"][1]["content"][0]["input_audio"]["data"]
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert request == {
        "model": "parrot",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [audio]},
            {"role": "assistant", "content": "A ramp."},
            {"role": "user", "content": [{"type": "text", "text": "And this?"}, audio]},
        ],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
    }
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        np.testing.assert_array_equal(np.frombuffer(file.readframes(800), "<i2"), said)


@pytest.mark.parametrize(
    ("audio_as", "key", "holder", "start"),
    [
        ("input_audio", "input_audio", "data", "UklGR"),
        ("input_audio_url", "input_audio", "data", "data:;base64,UklGR"),
        ("audio_url", "audio_url", "url", "data:audio/wav;base64,UklGR"),
    ],
)
async def test_servers_take_audio_in_different_ways(
    server: ChatServer, audio_as: str, key: str, holder: str, start: str
) -> None:
    async with session_with(server, audio_as=audio_as) as session:
        await events_of(ask(session, prompt(user(silence(100)))))
    (part,) = server.requests[0]["messages"][0]["content"]
    assert part["type"] == key
    assert part[key][holder].startswith(start)


async def test_old_turns_are_sent_byte_for_byte_the_same(server: ChatServer) -> None:
    turns: list[Message] = [system("Be brief.")]
    async with session_with(server) as session:
        for length_ms in (300, 100, 200):
            turns.append(user(silence(length_ms)))
            turns.append(assistant(await text_of(ask(session, prompt(*turns)))))
    sent = [json.dumps(request["messages"]) for request in server.requests]
    assert [len(request["messages"]) for request in server.requests] == [2, 4, 6]
    for before, after in pairwise(sent):
        assert after.startswith(before.removesuffix("]"))


async def test_each_audio_is_encoded_once_and_forgotten_with_its_message(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant.engines.remote import audio

    encoded: list[str] = []
    wav = audio.wav

    def counting(part: AudioPart) -> bytes:
        encoded.append(part.digest)
        return wav(part)

    monkeypatch.setattr(audio, "wav", counting)
    first, second = (AudioPart.of(silence(length_ms)) for length_ms in (100, 200))
    a, b = Message("a", "user", (first,)), Message("b", "user", (second,))
    async with session_with(server) as session:
        for messages in ((a,), (a, b), (b,), (a,)):
            await events_of(ask(session, Prompt(messages)))
    assert encoded == [first.digest, second.digest, first.digest]


async def test_the_key_comes_from_the_environment(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSISTANT_MODEL_API_KEY", raising=False)
    monkeypatch.setenv("OTHER_KEY", "sesame")
    async with session_with(server) as session:
        await events_of(ask(session))
    async with session_with(server, api_key_env="OTHER_KEY") as session:
        await events_of(ask(session))
    assert server.keys == ["Bearer none", "Bearer none", "Bearer sesame", "Bearer sesame"]


async def test_a_reply_that_is_cut_at_its_length(server: ChatServer) -> None:
    server.will("One", finish_reason="length")
    async with session_with(server, max_output_tokens=1) as session:
        *_, finished = await events_of(ask(session))
    assert isinstance(finished, Finished) and finished.reason == "length"
    assert server.requests[0]["max_tokens"] == 1


@pytest.mark.parametrize(
    "says", ["spam " * 100, call_piece("spam " * 100), ""], ids=["text", "a call", "nothing"]
)
async def test_a_server_that_does_not_keep_to_the_length_is_left(
    server: ChatServer, says: str | dict[str, Any]
) -> None:
    tokens = 2
    most = tokens * MAX_TOKEN_CHARS
    server.will("One", *[says] * most, then="stalls")
    async with session_with(server) as session:
        *events, finished = await events_of(ask(session, max_output_tokens=tokens))
        await server.was_left(1)
        assert await text_of(ask(session)) == "Hello."
    assert isinstance(finished, Finished) and finished.reason == "length"
    said = "".join(event.text for event in events if isinstance(event, Text))
    assert len(said) <= most + len("spam " * 100)


async def test_a_server_that_tells_no_usage(server: ChatServer) -> None:
    server.will("One", " two")
    async with session_with(server) as session:
        about = prompt(user("Count", silence(2000)))
        *_, finished = await events_of(ask(session, about))
        assert await session.count(about) == TokenCount(text=6, audio=50)
        assert await session.prefill(about) == PrefillReport(TokenCount(6, 50), TokenCount())
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(TokenCount(6, 50), TokenCount(), output_tokens=2)


async def test_a_stream_that_stays_open_after_its_reply_is_left(server: ChatServer) -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
    server.will("One", *server.ending(Answer(usage=usage)), then="stalls")
    async with session_with(server) as session:
        *_, finished = await events_of(ask(session))
        await server.was_left(1)
    assert isinstance(finished, Finished) and finished.usage.output_tokens == 1


async def test_a_server_that_does_not_tell_audio_from_text(server: ChatServer) -> None:
    usage = {"prompt_tokens": 112, "completion_tokens": 1, "total_tokens": 113}
    server.will("One", usage=usage)
    async with session_with(server) as session:
        *_, finished = await events_of(ask(session, prompt(user("Count", silence(2000)))))
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(TokenCount(12, 100), TokenCount(), output_tokens=1)


# Functions.


def calls(*pieces: dict[str, Any]) -> dict[str, Any]:
    """An event of the stream with pieces of function calls."""
    return {"choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}}]}


def piece(index: int, arguments: str, **head: str) -> dict[str, Any]:
    name = {"name": head.pop("name")} if "name" in head else {}
    return {"index": index, **head, "function": {**name, "arguments": arguments}}


WEATHER = Tool("weather", "Tells the weather.", {"type": "object", "properties": {}})


async def test_functions_that_are_called(server: ChatServer) -> None:
    server.will(
        "Let me see.",
        calls(piece(0, "", id="call_a", name="weather")),
        calls(piece(0, '{"at": '), piece(1, "{}", name="time")),
        calls(piece(0, '"home"}')),
        finish_reason="tool_calls",
    )
    async with session_with(server, tools=True) as session:
        about = Prompt(QUESTION.messages, (WEATHER,), OneTool("weather"))
        _, text, first, second, finished = await events_of(ask(session, about))
    assert text == Text("Let me see.", ())
    assert first == ToolCall("call_a", "weather", '{"at": "home"}', ())
    assert isinstance(second, ToolCall) and (second.name, second.arguments) == ("time", "{}")
    assert second.call_id.startswith("call_")
    assert isinstance(finished, Finished) and finished.reason == "stop"
    (request,) = server.requests
    assert request["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]
    assert request["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_a_call_that_is_cut_off_is_none(server: ChatServer) -> None:
    both = (piece(0, "{}", id="a", name="weather"), piece(1, '{"at"', id="b", name="weather"))
    server.will(calls(*both), finish_reason="length")
    async with session_with(server) as session:
        _, call, finished = await events_of(ask(session, Prompt(QUESTION.messages, (WEATHER,))))
    assert call == ToolCall("a", "weather", "{}", ())
    assert isinstance(finished, Finished) and finished.reason == "length"


async def test_a_server_that_fails_in_the_middle_of_a_call_is_not_asked_again(
    server: ChatServer,
) -> None:
    server.will(calls(piece(0, "{", id="a", name="weather")), then="closes")
    async with session_with(server) as session:
        with pytest.raises(EngineError, match="broke the reply off"):
            await events_of(ask(session, Prompt(QUESTION.messages, (WEATHER,))))
    assert len(server.requests) == 1


async def test_calls_belong_to_the_message_that_they_were_made_in(server: ChatServer) -> None:
    about = prompt(
        user("Weather and time?"),
        assistant("Let me see."),
        Message("", "assistant", (FunctionCall("a", "weather", "{}"),)),
        Message("", "assistant", (FunctionCall("b", "time", "{}"),)),
        Message("", "tool", (FunctionOutput("a", "rain"),)),
        Message("", "tool", (FunctionOutput("b", "noon"),)),
        Message("", "assistant", (FunctionCall("c", "time", "{}"),)),
    )
    async with session_with(server) as session:
        await events_of(ask(session, about))

    def call(call_id: str, name: str) -> dict[str, Any]:
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": "{}"},
        }

    both = [call("a", "weather"), call("b", "time")]
    assert server.requests[0]["messages"] == [
        {"role": "user", "content": "Weather and time?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": both},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "content": "noon"},
        {"role": "assistant", "content": None, "tool_calls": [call("c", "time")]},
    ]


# Replies ahead of their turn's end, and those that are interrupted.


async def test_a_reply_that_was_begun_ahead_is_there_at_the_commit(server: ChatServer) -> None:
    server.will("Yes", ".")
    async with session_with(server) as session:
        reply = ask(session, speculative=True)
        # The whole of it comes before the turn is over.
        *texts, finished = (await events_of(reply))[1:]
        reply.commit()
    assert texts == [Text("Yes", ()), Text(".", ())]
    assert isinstance(finished, Finished)


async def test_cancelling_aborts_the_request(server: ChatServer) -> None:
    server.will("One", " two", then="stalls")
    async with session_with(server) as session:
        reply = ask(session, speculative=True)
        seen = []
        async for event in reply:
            seen.append(event)
            if event == Text(" two", ()):
                await reply.cancel()
        assert seen[1:] == [Text("One", ()), Text(" two", ())]
        await server.was_left(1)
        assert await text_of(ask(session)) == "Hello."


async def test_a_request_is_aborted_before_its_first_token_too(server: ChatServer) -> None:
    server.will(then="stalls")
    async with session_with(server) as session:
        reply = ask(session)
        reading = asyncio.create_task(events_of(reply))
        await server.asked(1)
        await reply.cancel()
        assert await reading == []
        await server.was_left(1)


async def test_a_new_reply_takes_the_place_of_the_unfinished_one(server: ChatServer) -> None:
    server.will("One", then="stalls")
    async with session_with(server) as session:
        reading = asyncio.create_task(text_of(ask(session)))
        await server.asked(1)
        assert await text_of(ask(session)) == "Hello."
        await reading
        await server.was_left(1)


async def test_a_side_reply_runs_beside_the_main_one(server: ChatServer) -> None:
    server.will("One", then="stalls")
    async with session_with(server) as session:
        reply = ask(session)
        reading = asyncio.create_task(text_of(reply))
        await server.asked(1)
        beside = session.reply(prompt(user("Aside")), ReplyOptions(), side=True)
        assert await text_of(beside) == "Hello."
        assert server.left == 0
        await reply.cancel()
        await reading


async def test_closing_the_session_ends_what_runs(server: ChatServer) -> None:
    server.will("One", then="stalls")
    async with session_with(server) as session:
        reading = asyncio.create_task(text_of(ask(session)))
        await server.asked(1)
        await session.close()
        await reading
        await server.was_left(1)
        with pytest.raises(EngineError, match="closed"):
            await events_of(ask(session))


# What may go wrong.


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"then": "cuts"}, "The connection to .* failed"),
        ({"then": "closes"}, "broke the reply off"),
        ({"then": "stalls"}, r"sent no more of the reply for 0\.2 s"),
        ({"finish_reason": "content_filter"}, "content filter"),
    ],
)
async def test_a_server_that_fails_in_the_middle_of_a_reply(
    server: ChatServer, how: dict[str, str], reason: str
) -> None:
    server.will("One", " two", **how)
    async with session_with(server, token_timeout_s=0.2) as session:
        texts = []
        with pytest.raises(EngineError, match=reason):
            async for event in ask(session):
                texts += [event.text] if isinstance(event, Text) else []
        assert texts == ["One", " two"]
        assert len(server.requests) == 1
        assert await text_of(ask(session)) == "Hello."


async def test_an_error_in_place_of_a_token(server: ChatServer) -> None:
    error = {"error": {"message": "CUDA out of memory", "type": "server_error", "code": 500}}
    server.will("One", error, then="closes")
    async with session_with(server) as session:
        with pytest.raises(EngineError, match="CUDA out of memory"):
            await events_of(ask(session))


@pytest.mark.parametrize(
    "how",
    [
        {"status": 500, "error": {"error": {"message": "crashed"}}},
        {"status": 503, "error": "loading"},
        {"status": 429, "error": {}, "headers": {"retry-after": "0"}},
        {"status": 429, "error": {}, "headers": {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}},
        {"then": "cuts"},
        {"then": "closes"},
    ],
)
async def test_before_the_first_token_it_is_tried_again(
    server: ChatServer, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.engines.remote.servers.FIRST_REST_S", 0.01)
    server.will(**how)
    server.will(**how)
    async with session_with(server) as session:
        assert await text_of(ask(session)) == "Hello."
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"status": 500, "error": {"error": {"message": "crashed"}}}, "500: .*crashed"),
        (
            {"status": 429, "error": {"error": {"message": "slow down"}}},
            "at its rate limit: .*slow down",
        ),
    ],
)
async def test_retries_come_to_an_end(
    server: ChatServer, how: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.engines.remote.servers.FIRST_REST_S", 0.01)
    for _ in range(3):
        server.will(**how)
    async with session_with(server) as session:
        with pytest.raises(EngineError, match=reason):
            await events_of(ask(session))
        assert len(server.requests) == 3
        assert await text_of(ask(session)) == "Hello."


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"status": 400, "error": {"error": {"message": "no audio, please"}}}, "no audio, please"),
        ({"status": 401, "error": {"error": {"message": "who?"}}}, "refuses the API key: .*who?"),
        (
            {"status": 429, "error": {"error": {"message": "pay", "code": "insufficient_quota"}}},
            "429: .*pay",
        ),
        (
            {"status": 429, "error": {}, "headers": {"retry-after": "3600"}},
            "at its rate limit",
        ),
        ({"says": ({"choices": "none"},)}, "sent what can't be read"),
    ],
)
async def test_what_would_fail_again_is_not_tried_again(
    server: ChatServer, how: dict[str, Any], reason: str
) -> None:
    server.will(*how.pop("says", ()), **how)
    async with session_with(server) as session:
        with pytest.raises(EngineError, match=reason):
            await events_of(ask(session))
    assert len(server.requests) == 1


async def test_a_server_at_its_limit_is_left_alone_by_all(server: ChatServer) -> None:
    server.will(status=429, error={}, headers={"retry-after": "3600"})
    async with engine_for(server) as engine:
        one, other = await engine.open_session(), await engine.open_session()
        for session in (one, other):
            with pytest.raises(EngineError) as caught:
                await events_of(ask(session))
            told = rf"{server.address} is at its rate limit: it doesn't say why\. It is left alone"
            assert re.fullmatch(rf"{told} for 3\d\d\d s yet\.", str(caught.value))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "after_s"),
    [
        ("0.5", 0.5),
        ("-1", 0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40),
        ("Thu, 01 Jan 1970 00:00:00 +99999999999999", None),
        ("", None),
    ],
)
def test_how_long_a_server_asks_to_be_left_alone(header: str, after_s: float | None) -> None:
    assert retry_after_s(header, now_s=60) == after_s


async def test_a_reply_ahead_gives_way_instead_of_waiting(server: ChatServer) -> None:
    server.will(status=429, error={}, headers={"retry-after": "0.05"})
    async with session_with(server) as session:
        with pytest.raises(GaveWayError, match="at its rate limit"):
            await events_of(ask(session, speculative=True))
        # Its turn is over now, and it is asked for again.
        assert await text_of(ask(session)) == "Hello."
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "error", "taken"),
    [
        # vLLM
        (
            400,
            "This model's maximum context length is 8192 tokens. However, your request has 9001 "
            "input tokens. Please reduce the length of the input messages.",
            9001,
        ),
        # llama.cpp
        (400, "request (13392 tokens) exceeds the available context size (8192 tokens)", 13392),
        # SGLang
        (
            400,
            "The input (12000 tokens) is longer than the model's context length (8192 tokens).",
            12000,
        ),
        # DashScope
        (400, "Range of input length should be [1, 6000]", 8193),
        (413, "Request Entity Too Large", 8193),
    ],
)
async def test_a_prompt_that_is_too_long(
    server: ChatServer, status: int, error: str, taken: int
) -> None:
    server.models = [{"id": "parrot", "max_model_len": 8192}]
    server.will(status=status, error={"error": {"message": error}})
    async with session_with(server) as session:
        with pytest.raises(PromptTooLongError) as caught:
            await events_of(ask(session, prompt(user("Count!", silence(2000)))))
    assert caught.value.text_tokens + caught.value.audio_tokens == taken
    assert caught.value.audio_tokens == round(taken * 50 / 56)


async def test_a_context_that_fills_up_in_the_middle_ends_the_reply(server: ChatServer) -> None:
    error = {"error": {"message": "context size exceeded", "code": "context_length_exceeded"}}
    server.will("One", error, then="closes")
    async with session_with(server) as session:
        with pytest.raises(EngineError, match="context size") as caught:
            await events_of(ask(session))
    assert not isinstance(caught.value, PromptTooLongError)


# Several servers.


async def test_conversations_are_spread_and_stay_where_they_are() -> None:
    async with (
        chat_server() as first,
        chat_server() as second,
        engine_for(first, second) as engine,
    ):
        sessions = [await engine.open_session() for _ in range(4)]
        for _ in range(3):
            for number, session in enumerate(sessions):
                await events_of(ask(session, prompt(user(f"I am {number}."))))
        said = [
            [request["messages"][0]["content"] for request in server.requests]
            for server in (first, second)
        ]
        assert said == [["I am 0.", "I am 2."] * 3, ["I am 1.", "I am 3."] * 3]
        # A place that is free again is taken first.
        await sessions[1].close()
        await events_of(ask(await engine.open_session()))
        assert second.requests[-1]["messages"][0]["content"] == "Are you there?"


@pytest.mark.parametrize(
    "how", [{"status": 500, "error": {}}, {"then": "cuts"}, {"then": "stalls"}, {"status": 429}]
)
async def test_a_conversation_moves_when_its_server_fails(how: dict[str, Any]) -> None:
    async with (
        chat_server() as first,
        chat_server() as second,
        session_with(first, second, first_token_timeout_s=0.2) as session,
    ):
        await events_of(ask(session))
        first.will(**how)
        assert await text_of(ask(session)) == "Hello."
        # It stays there, since there its conversation is known now.
        await events_of(ask(session))
        assert (len(first.requests), len(second.requests)) == (2, 2)


async def test_a_stalled_server_without_another_fails_the_reply(server: ChatServer) -> None:
    server.will(then="stalls")
    async with session_with(server, first_token_timeout_s=0.2) as session:
        with pytest.raises(EngineError, match=r"sent no answer for 0\.2 s"):
            await events_of(ask(session))
    assert len(server.requests) == 1


async def test_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.engines.remote.servers.FIRST_REST_S", 0.01)
    async with chat_server() as second:
        async with chat_server() as first:
            settings = OpenAICompatibleSettings(base_urls=(first.base_url, second.base_url))
            engine = OpenAICompatibleEngine("parrot", settings)
            await engine.start()
            session = await engine.open_session()
            await events_of(ask(session))
        assert len(first.requests) == 1
        assert await text_of(ask(session)) == "Hello."
        assert len(second.requests) == 1
    with pytest.raises(EngineError, match=r"The connection to 127\.0\.0\.1:\d+ failed"):
        await events_of(ask(session))
    await engine.close()


# The start.


async def test_what_the_servers_tell_of_their_model(server: ChatServer) -> None:
    server.models = [{"id": "other", "max_model_len": 5}, {"id": "parrot", "max_model_len": 9000}]
    async with engine_for(server) as engine:
        info = engine.info
    assert (info.model, info.context_tokens, info.device) == ("parrot", 9000, server.address)
    async with engine_for(server, context_tokens=4096) as engine:
        assert engine.info.context_tokens == 4096


async def test_the_only_model_needs_no_name(server: ChatServer) -> None:
    server.models = [{"id": "cockatoo", "meta": {"n_ctx": 4096}}]
    settings = OpenAICompatibleSettings(base_urls=(server.base_url,))
    engine = OpenAICompatibleEngine(None, settings)
    await engine.start()
    assert (engine.info.model, engine.info.context_tokens) == ("cockatoo", 4096)
    server.models.append({"id": "ara"})
    other = OpenAICompatibleEngine(None, settings)
    with pytest.raises(EngineError, match=r"Name the model .*: ara, cockatoo"):
        await other.start()
    await engine.close()
    await other.close()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "refuses the API key: .*ASSISTANT_MODEL_API_KEY"),
        (403, "refuses the API key"),
    ],
)
async def test_a_start_that_is_refused(server: ChatServer, status: int, text: str) -> None:
    server.models_status = status
    with pytest.raises(EngineError, match=text):
        async with engine_for(server):
            pass


@pytest.mark.parametrize("body", [[], "models", 1, {"models": []}, {"data": {"id": "parrot"}}])
async def test_a_server_whose_list_of_models_is_none(server: ChatServer, body: Any) -> None:
    server.models_body = body
    with pytest.raises(EngineError, match=r"can't be asked for its models: it answers .*path of"):
        async with engine_for(server):
            pass


async def test_what_is_no_model_in_a_list_of_models(server: ChatServer) -> None:
    odd: list[Any] = [1, {"id": 1}, {"id": "parrot", "max_model_len": True, "meta": {"n_ctx": ""}}]
    server.models = odd
    async with engine_for(server) as engine:
        assert engine.info.context_tokens == ASSUMED_CONTEXT_TOKENS


@pytest.mark.parametrize("status", [404, 500])
async def test_a_server_that_does_not_list_its_models(server: ChatServer, status: int) -> None:
    server.models_status = status
    async with session_with(server) as session:
        assert await text_of(ask(session)) == "Hello."


async def test_one_server_of_several_is_enough_to_start() -> None:
    async with chat_server() as gone:
        pass
    with pytest.raises(EngineError, match=r"can't be asked for its models.*Is it running"):
        async with engine_for(gone):
            pass
    async with chat_server() as server, session_with(gone, server) as session:
        assert await text_of(ask(session)) == "Hello."
