"""Responses as clients ask for them: beside the conversation, to other input, within limits."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from assistant import metrics
from assistant.engines.engine import (
    Finished,
    Started,
    Text,
    Timings,
    TokenCount,
    ToolCall,
)
from assistant.errors import ProtocolError
from assistant.prompt import AudioPart, OneTool, TextPart, Tool
from assistant.realtime.beside import MAX_AT_ONCE
from assistant.realtime.effects import CancelReply, Effect, FlushHearing, Prefill, StartReply
from tests.protocol import sent, types
from tests.test_realtime_session import (
    FINISHED,
    MANUAL,
    REPLY,
    TURN_ANSWERED,
    TURN_TAKEN,
    Client,
    full,
    latency,
    pcm,
    utterance,
)

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "What the sky does",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
GET_WEATHER = Tool("get_weather", "What the sky does", WEATHER["parameters"])  # type: ignore[arg-type]
TIME = {"type": "function", "name": "get_time"}
CALL = ToolCall("call_1", "get_weather", '{"city":"Rome"}', (7, 8))

# Beside the conversation there are no conversation.item events.
ANSWERED_BESIDE = [name for name in TURN_ANSWERED[1:] if not name.startswith("conversation")]


BRIEF = {"instructions": "Be brief."}


def creates(client: Client, **response: Any) -> list[Effect]:
    return client.send("response.create", response=response)


def start_in(effects: list[Effect]) -> StartReply:
    (start,) = [effect for effect in effects if isinstance(effect, StartReply)]
    return start


def asides(client: Client, **response: Any) -> StartReply:
    """A response beside the conversation."""
    effects = creates(client, conversation="none", **response)
    assert types(effects) == ["StartReply", "response.created"]
    assert sent(effects)[0]["response"]["conversation_id"] is None
    start = start_in(effects)
    assert start.side
    return start


def hears(client: Client, start: StartReply, *events: Any) -> list[Effect]:
    """What the client hears of one reply."""
    return [e for event in events for e in client.session.generated(start.reply_id, event)]


def typed(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


def test_what_is_asked_for_one_response_holds_for_that_one_alone() -> None:
    client = Client(**MANUAL, takes_tools=True, instructions="Be brief.", max_output_tokens=50)
    start = start_in(
        creates(
            client,
            instructions="Sing.",
            max_output_tokens=7,
            tools=[WEATHER],
            tool_choice={"type": "function", "name": "get_weather"},
            metadata={"mine": "1"},
            output_modalities=["audio"],
            audio={"output": {"voice": "ash"}},
        )
    )
    assert start.prompt.messages[0].parts == (TextPart("Sing."),)
    assert start.prompt.tools == (GET_WEATHER,)
    assert start.prompt.tool_choice == OneTool("get_weather")
    assert start.options.max_output_tokens == 7
    client.model_says(*REPLY)
    after = start_in(creates(client))
    assert after.prompt.messages[0].parts == (TextPart("Be brief."),)
    assert after.prompt.tools == () and after.options.max_output_tokens == 50


def test_times_that_a_client_tells_are_not_taken_for_ours() -> None:
    client = Client(**MANUAL, **BRIEF)
    metadata = {"mine": "1", "latency.speech_end_ms": "x", "latency.turn_end_ms": "y"}
    (created,) = sent(creates(client, metadata=metadata))
    assert created["response"]["metadata"] == {"mine": "1"}
    assert sent(client.model_says(*REPLY))[-1]["response"]["metadata"] == {
        "mine": "1",
        "latency.first_token_ms": "0",
        "latency.total_ms": "0",
        "latency.speculation": "none",
    }
    start = asides(client, metadata=metadata)
    (*_, done) = sent(hears(client, start, *REPLY))
    assert done["response"]["metadata"] == {"mine": "1"}
    metrics.sent(done)


@pytest.mark.parametrize(
    "metadata", [{str(n): "" for n in range(17)}, {"x" * 65: ""}, {"x": "y" * 513}, {"x": 5}]
)
def test_metadata_has_the_api_s_bounds(metadata: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"response\.metadata"):
        creates(Client(**MANUAL), metadata=metadata)


def test_a_response_beside_leaves_no_trace() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY)
    before = client.session.messages
    start = asides(client, instructions="Sum up.", metadata={"mine": "1"})
    assert [message.parts for message in start.prompt.messages[1:]] == [
        message.parts for message in before
    ]
    effects = hears(client, start, *REPLY)
    assert types(effects) == ANSWERED_BESIDE
    done = sent(effects)[-1]["response"]
    assert (done["status"], done["metadata"]) == ("completed", {"mine": "1"})
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "Good day"}]
    assert client.session.messages == before


def test_what_a_response_answers_may_be_its_own_input() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    sound = {"type": "input_audio", "audio": pcm(500)}
    start = asides(
        client,
        input=[
            {"type": "item_reference", "id": "item_2"},
            typed("Is that polite?", id="item_2"),
            {"type": "message", "role": "user", "content": [sound]},
        ],
    )
    said, asked, heard = start.prompt.messages
    # As far as it had been said.
    assert (said.role, said.parts) == ("assistant", (TextPart("Good", (1,)),))
    assert asked.parts == (TextPart("Is that polite?"),)
    assert isinstance(heard.parts[0], AudioPart)


def test_input_of_its_own_goes_into_the_conversation_too() -> None:
    client = Client(**MANUAL)
    client.send("conversation.item.create", item=typed("Hello"))
    start = start_in(creates(client, input=[typed("Sing.")]))
    assert not start.side
    assert [message.parts for message in start.prompt.messages] == [(TextPart("Sing."),)]
    assert types(client.model_says(*REPLY)) == TURN_ANSWERED[1:]
    assert client.said_by("user") == ["Hello"] and client.said_by("assistant") == ["Good day"]
    # What it took says nothing of what the conversation takes.
    creates(client, input=[typed("Sing.")])
    assert Prefill not in map(type, client.model_says(*REPLY[:3], full(900)))
    assert len(client.session.messages) == 3


@pytest.mark.parametrize("conversation", ["auto", "none"])
@pytest.mark.parametrize("input_", [{}, {"input": []}])
def test_there_must_be_something_to_answer(conversation: str, input_: dict[str, Any]) -> None:
    client = Client(**MANUAL)
    asked = {"conversation": conversation, **input_}
    (error,) = sent(client.send("response.create", response=asked))
    assert (error["error"]["type"], error["error"]["code"]) == (
        "invalid_request_error",
        "nothing_to_answer",
    )
    start = start_in(creates(client, instructions="Greet.", **asked))
    assert [message.parts for message in start.prompt.messages] == [(TextPart("Greet."),)]


def test_an_unknown_reference_is_named() -> None:
    client = Client()
    references = [typed("x"), {"type": "item_reference", "id": "nowhere"}]
    (error,) = sent(creates(client, conversation="none", input=references))
    assert error["error"]["code"] == "item_reference_invalid_item_id"
    assert error["error"]["param"] == "response.input[1].id"


def test_several_run_beside_the_conversation_s_own_reply() -> None:
    client = Client()
    client.speaks()
    starts = [asides(client, input=[typed(str(n))]) for n in range(MAX_AT_ONCE)]
    (error,) = sent(creates(client, conversation="none"))
    assert error["error"]["code"] == "too_many_responses"
    told: dict[str, str] = {}
    for number, word in enumerate("abc"):
        for start in starts:
            text = Text(f"{word}{start.reply_id[-1]}", (number,))
            for event in sent(hears(client, start, text)):
                if event["type"] == "response.output_text.delta":
                    told[event["response_id"]] = told.get(event["response_id"], "") + event["delta"]
        client.model_says(Text(word, (number,)))
    assert told == {
        start.reply_id: "".join(f"{word}{start.reply_id[-1]}" for word in "abc") for start in starts
    }
    # Each ends in its own way, and makes room.
    effects = client.send("response.cancel", response_id=starts[0].reply_id)
    assert effects[0] == CancelReply(starts[0].reply_id)
    assert sent(effects)[-1]["response"]["status_details"]["reason"] == "client_cancelled"
    *_, failed = sent(client.session.failed(starts[1].reply_id, "out of memory"))
    assert failed["response"]["status"] == "failed"
    *_, cut = sent(hears(client, starts[2], Finished("length", FINISHED.usage, Timings(1, 2, 3))))
    assert cut["response"]["status_details"]["reason"] == "max_output_tokens"
    assert types(client.model_says(FINISHED))[-1] == "response.done"
    assert client.said_by("assistant") == ["abc"]
    for start in starts[:3]:
        assert hears(client, start, *REPLY) == []
    asides(client)


def test_cancelling_without_an_id_leaves_what_runs_beside() -> None:
    client = Client(**BRIEF)
    start = asides(client)
    (error,) = sent(client.send("response.cancel"))
    assert error["error"]["code"] == "response_cancel_not_active"
    client.speaks()
    assert types(client.send("response.cancel")) == ["CancelReply", "response.done"]
    assert types(hears(client, start, *REPLY)) == ANSWERED_BESIDE


def test_speech_does_not_interrupt_what_runs_beside() -> None:
    client = Client(**BRIEF)
    start = asides(client)
    client.starts_to_speak()
    assert client.keeps_speaking() == []
    assert types(hears(client, start, *REPLY)) == ANSWERED_BESIDE


# Functions.

OFFERED = {**BRIEF, "tools": [WEATHER, TIME], "tool_choice": "auto"}
CALLED = [
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "conversation.item.done",
]


def with_tools(**session: Any) -> Client:
    return Client(**MANUAL, takes_tools=True, **{**OFFERED, **session})


def test_a_call_and_its_answer() -> None:
    client = with_tools()
    start = start_in(creates(client))
    assert start.prompt.tools == (GET_WEATHER, Tool("get_time", "", {}))
    effects = client.model_says(Started(REPLY[0].report), CALL, FINISHED)  # type: ignore[union-attr]
    assert types(effects) == [*CALLED, "response.done"]
    added, _, delta, done, item_done, _, response_done = sent(effects)
    assert added["item"] == {
        "id": "item_1",
        "object": "realtime.item",
        "type": "function_call",
        "status": "in_progress",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": "",
    }
    assert delta["delta"] == done["arguments"] == '{"city":"Rome"}'
    assert done["name"] == "get_weather"
    assert item_done["item"] == {
        **added["item"],
        "status": "completed",
        "arguments": '{"city":"Rome"}',
    }
    assert response_done["response"]["output"] == [item_done["item"]]
    output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    added, _ = sent(client.send("conversation.item.create", item=output))
    assert added["previous_item_id"] == "item_1"
    assert added["item"]["output"] == "sunny"
    prompt = start_in(creates(client)).prompt
    assert [message.role for message in prompt.messages] == ["system", "assistant", "tool"]
    assert prompt.messages[1].parts[0].token_ids == (7, 8)  # type: ignore[union-attr]


def test_words_and_calls_in_one_response() -> None:
    client = with_tools()
    creates(client)
    second = ToolCall("call_2", "get_time", "{}", (9,))
    effects = client.model_says(
        Text("Let me see.", (1,)), CALL, second, Text("So.", (2,)), FINISHED
    )
    closed = TURN_ANSWERED[6:10]
    opened = TURN_ANSWERED[1:5]
    assert types(effects) == [
        *opened,
        *closed,
        *CALLED,
        *CALLED,
        *opened,
        *closed,
        "response.done",
    ]
    events = sent(effects)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == [
        "message",
        "function_call",
        "function_call",
        "message",
    ]
    assert all(item["status"] == "completed" for item in response["output"])
    indices = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    assert indices == [0, 1, 2, 3]
    before = [e["previous_item_id"] for e in events if e["type"] == "conversation.item.added"]
    assert before == [None, "item_1", "item_2", "item_3"]


@pytest.mark.parametrize("asked", [{"tools": []}, {"tool_choice": "none"}, {"tools": [TIME]}])
def test_what_is_not_offered_cannot_be_called(asked: dict[str, Any]) -> None:
    client = with_tools()
    creates(client, **asked)
    effects = client.model_says(CALL)
    assert types(effects) == ["CancelReply", "response.done"]
    assert "get_weather" in sent(effects)[-1]["response"]["status_details"]["error"]["message"]


@pytest.mark.parametrize("conversation", ["auto", "none"])
@pytest.mark.parametrize(
    ("session", "asked"),
    [
        ({}, {"tool_choice": {"type": "function", "name": "sing"}}),
        ({"tools": []}, {"tool_choice": "required"}),
        ({"tool_choice": "required"}, {"tools": []}),
    ],
)
def test_a_call_that_cannot_be_is_not_demanded(
    session: dict[str, Any], asked: dict[str, Any], conversation: str
) -> None:
    client = with_tools(**session)
    (error,) = sent(
        client.send("response.create", response={**asked, "conversation": conversation})
    )
    assert (error["error"]["type"], error["error"]["param"]) == (
        "invalid_request_error",
        "response.tool_choice",
    )
    assert start_in(creates(client, tool_choice="none"))


def test_a_call_beside_the_conversation() -> None:
    client = with_tools()
    start = asides(client)
    effects = hears(client, start, CALL, FINISHED)
    assert types(effects) == [
        *(name for name in CALLED if not name.startswith("conversation")),
        "response.done",
    ]
    assert client.session.messages == ()


def test_calls_and_outputs_from_clients() -> None:
    client = Client(**MANUAL, **BRIEF)
    call = {"type": "function_call", "name": "get_time", "arguments": "{}"}
    added, _ = sent(client.send("conversation.item.create", item=call))
    output = {"type": "function_call_output", "call_id": "call_9", "output": "noon"}
    (error,) = sent(client.send("conversation.item.create", item=output))
    assert error["error"]["code"] == "item_create_invalid_call_id"
    known = {**output, "call_id": added["item"]["call_id"]}
    assert len(sent(client.send("conversation.item.create", item=known))) == 2
    # Of a call that the client has taken out nothing is told either.
    client.send("conversation.item.delete", item_id=added["item"]["id"])
    assert [m.role for m in start_in(creates(client)).prompt.messages] == ["system"]


def test_a_model_that_cannot_call_is_not_offered_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(**MANUAL, **{**OFFERED, "tool_choice": "required"}, model="speechless")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert start_in(creates(client)).prompt.tools == ()
            client.model_says(*REPLY)
    (record,) = caplog.records
    assert record.getMessage().startswith("speechless can't call functions")
    assert [tool["name"] for tool in client.session.greeting()["session"]["tools"]] == [
        "get_weather",
        "get_time",
    ]


# When the context is full.


def fills(client: Client, tokens: int) -> list[Effect]:
    """Three turns, after which the conversation takes so many tokens."""
    for _ in range(2):
        client.speaks()
        client.model_says(*REPLY)
    client.speaks()
    return client.model_says(*REPLY[:3], full(tokens))


def limited(ratio: float, tokens: int | None = None) -> dict[str, Any]:
    limits = {"token_limits": {"post_instructions": tokens}} if tokens else {}
    return {"type": "retention_ratio", "retention_ratio": ratio, **limits}


@pytest.mark.parametrize(
    ("truncation", "tokens", "left"),
    [
        ("auto", 751, 2),
        ("disabled", 999, 6),
        (limited(0.9), 751, 4),
        (limited(0.9), 750, 6),
        (limited(0.0), 751, 1),
        (limited(1.0, 300), 301, 4),
        (limited(0.5, 300), 301, 2),
        (limited(0.5, 5000), 750, 6),
    ],
)
def test_how_much_of_a_full_context_is_kept(truncation: Any, tokens: int, left: int) -> None:
    client = Client(type="realtime", truncation=truncation)
    effects = fills(client, tokens)
    assert len(client.session.messages) == left
    assert (Prefill in map(type, effects)) == (left < 6)


def test_instructions_do_not_count_against_a_client_s_limit() -> None:
    client = Client(type="realtime", truncation=limited(0.5, 300), instructions="x" * 200)
    fills(client, 600)
    assert len(client.session.messages) == 6


def test_where_nothing_may_go_a_full_context_fails_the_response() -> None:
    client = Client(type="realtime", truncation="disabled")
    fills(client, 900)
    start = start_in(client.speaks())
    assert client.session.too_long(start.reply_id, TokenCount(1000, 0)) is None
    assert len(client.session.messages) == 7
    *_, done = sent(client.session.failed(start.reply_id, "too long"))
    assert done["response"]["status_details"]["error"]["message"] == "too long"


def test_input_of_its_own_that_is_too_long_costs_the_conversation_nothing() -> None:
    client = Client(**MANUAL)
    for n in range(5):
        client.send("conversation.item.create", item=typed(str(n)))
    start = start_in(creates(client, input=[typed("x" * 5000)]))
    assert client.session.too_long(start.reply_id, TokenCount(1000, 0)) is None
    assert len(client.session.messages) == 5


# When nobody speaks.


def idle_after(ms: int) -> Client:
    vad = {"type": "server_vad", "idle_timeout_ms": ms}
    return Client(type="realtime", audio={"input": {"turn_detection": vad}})


TIMED_OUT = [
    "input_audio_buffer.timeout_triggered",
    *TURN_TAKEN[1:],
    "StartReply",
    "response.created",
]


def test_a_silence_after_a_reply_is_answered() -> None:
    client = idle_after(6000)
    assert client.session.next_deadline_ms == 60_000
    client.speaks()
    client.now_ms = 2000
    client.model_says(*REPLY)
    assert client.session.next_deadline_ms == 8000
    assert client.session.time(7999) == []
    client.now_ms = 8000
    assert client.session.time(8000) == [FlushHearing(None, idle=True)]
    # What was heard before is none of its silence.
    effects = client.session.flushed(utterance(16_000, 112_000), None, idle=True)
    assert types(effects) == TIMED_OUT
    triggered, committed, *_ = sent(effects)
    assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (2000, 8000)
    assert triggered["item_id"] == committed["item_id"]
    assert client.session.next_deadline_ms == 60_000
    client.model_says(*REPLY)
    assert client.session.next_deadline_ms == 14_000


def test_where_no_audio_came_an_empty_item_is_answered() -> None:
    client = idle_after(6000)
    client.speaks()
    client.model_says(*REPLY)
    assert types(client.session.flushed(None, None, idle=True)) == TIMED_OUT
    assert client.session.messages[-1].parts == ()


def test_speech_stops_the_clock() -> None:
    client = idle_after(6000)
    client.speaks()
    client.model_says(*REPLY)
    client.now_ms = 5000
    client.starts_to_speak(40_000)
    assert client.session.next_deadline_ms == 60_000
    client.pauses()
    client.stops()
    assert client.session.next_deadline_ms == 60_000
    client.model_says(*REPLY)
    assert client.session.next_deadline_ms == 11_000
    client.now_ms = 7000
    client.session.flushed(utterance(80_000), None)  # The client has taken something.
    assert client.session.next_deadline_ms == 13_000


def test_what_runs_beside_tells_nothing_of_a_turn_s_time() -> None:
    client = Client(**BRIEF)
    start = asides(client)
    client.speaks()
    assert sent(hears(client, start, *REPLY))[-1]["response"]["metadata"] is None
    assert "total_ms" in latency(client.model_says(*REPLY))
