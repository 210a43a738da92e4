"""Client events: what is wrong with a message is said, with the id that the client gave it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent
from pydantic import Field, TypeAdapter

from assistant.errors import ProtocolError
from assistant.realtime.events import CLIENT_EVENT_TYPES, ItemCreate, parse_client_event

MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


def parse(event: Any, max_bytes: int = 10_000) -> Any:
    message = event if isinstance(event, bytes | str) else orjson.dumps(event)
    return parse_client_event(message, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"type":' * 101 + "1" + "}" * 101, "invalid_json", None),
        ('{"type":' * 100 + "1" + "}" * 100, "invalid_value", "type"),
        ({"event_id": "e"}, "missing_required_parameter", "type"),
        ({"type": "session.create"}, "invalid_value", "type"),
        ({"type": 5}, "invalid_value", "type"),
        ({"type": None}, "invalid_value", "type"),
        ({"type": ["x"]}, "invalid_value", "type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": []}, "invalid_type", "session"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_type", "audio"),
        ({"type": "input_audio_buffer.commit", "now": 1}, "unknown_parameter", "now"),
        (
            {"type": "conversation.item.create", "item": {"type": "mcp_call"}},
            "invalid_value",
            "item.type",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "item_reference", "id": "a"}},
            "invalid_value",
            "item.type",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "function_call", "name": "f"}},
            "missing_required_parameter",
            "item.arguments",
        ),
        (
            {"type": "response.create", "response": {"input": [MESSAGE, {"type": "message"}]}},
            "missing_required_parameter",
            "response.input[1].role",
        ),
        (
            {"type": "response.create", "response": {"input": [{"type": "item_reference"}]}},
            "missing_required_parameter",
            "response.input[0].id",
        ),
        (
            {"type": "response.create", "response": {"tools": [{"type": "mcp"}]}},
            "invalid_value",
            "response.tools[0].type",
        ),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "role": "nobody"}},
            "invalid_value",
            "item.role",
        ),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "content": []}},
            "empty_array",
            "item.content",
        ),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "content": [{"type": "x"}]}},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {**MESSAGE, "content": [{"type": "input_text"}]},
            },
            "missing_required_parameter",
            "item.content[0].text",
        ),
        (
            {"type": "response.create", "response": {"max_output_tokens": 0}},
            "integer_below_min_value",
            "response.max_output_tokens",
        ),
        (
            {"type": "response.create", "response": {"conversation": "mine"}},
            "invalid_value",
            "response.conversation",
        ),
        (
            {"type": "response.create", "response": {"max_output_tokens": 7.0}},
            "invalid_type",
            "response.max_output_tokens",
        ),
        ({"type": "response.create", "user": {}}, "unknown_parameter", "user"),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "user": "x"}},
            "unknown_parameter",
            "item.user",
        ),
        (
            {"type": "conversation.item.create", "item": {**MESSAGE, "id": ""}},
            "empty_string",
            "item.id",
        ),
        (
            {
                "type": "conversation.item.truncate",
                "item_id": "a",
                "content_index": 0,
                "audio_end_ms": -1,
            },
            "integer_below_min_value",
            "audio_end_ms",
        ),
        ("x" * 10_001, "message_too_large", None),
        # Bytes, and not characters.
        ("ä" * 5_001, "message_too_large", None),
        ("ä" * 5_000, "invalid_json", None),
    ],
)
def test_what_is_wrong_is_named(event: Any, code: str, param: str | None) -> None:
    if isinstance(event, dict):
        event = {"event_id": "mine", **event}
    with pytest.raises(ProtocolError) as caught:
        parse(event)
    assert (caught.value.code, caught.value.param) == (code, param)
    if isinstance(event, dict) and "event_id" in event:
        assert caught.value.event_id == event["event_id"]


TOOL = {"type": "function", "name": "f"}
REFERENCE = {"type": "item_reference", "id": "a"}


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        (
            {"type": "input_audio_buffer.clear", **{str(n): 1 for n in range(20_000)}},
            "invalid_json",
            None,
        ),
        (
            {"type": "response.create", "response": {"tools": [TOOL] * 129}},
            "array_above_max_length",
            "response.tools",
        ),
        (
            {"type": "response.create", "response": {"input": [REFERENCE] * 1001}},
            "array_above_max_length",
            "response.input",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {**MESSAGE, "content": MESSAGE["content"] * 65},
            },
            "array_above_max_length",
            "item.content",
        ),
        (
            {"type": "response.create", "response": {"tool_choice": {**TOOL, "name": "n" * 129}}},
            "string_above_max_length",
            "response.tool_choice.name",
        ),
        (
            {"type": "conversation.item.retrieve", "item_id": "i" * 513},
            "string_above_max_length",
            "item_id",
        ),
        (
            {"type": "response.create", "response": {"input": [{**REFERENCE, "id": "i" * 513}]}},
            "string_above_max_length",
            "response.input[0].id",
        ),
        (
            {"type": "response.cancel", "response_id": "r" * 513},
            "string_above_max_length",
            "response_id",
        ),
    ],
)
def test_there_is_a_bound_to_how_much_one_event_holds(
    event: Any, code: str, param: str | None
) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(event, max_bytes=10**6)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_name_that_is_none_is_not_sent_back_whole() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse({"type": "input_audio_buffer.clear", "x" * 200: 1})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "x" * 100 + "...")


def test_an_id_that_is_no_id_is_not_sent_back() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse({"type": "input_audio_buffer.clear", "event_id": "e" * 513})
    assert (caught.value.param, caught.value.event_id) == ("event_id", None)


@pytest.mark.parametrize(
    ("type_", "shown"),
    [("x", "'x'"), (None, "null"), ({"a": [True]}, '{"a":[true]}'), ("x" * 200, "'" + "x" * 99)],
)
def test_what_was_given_is_shown_as_it_was_written(type_: Any, shown: str) -> None:
    with pytest.raises(ProtocolError, match=f"^Invalid value: {re.escape(shown)}"):
        parse({"type": type_})


def test_every_type_is_listed_where_one_is_unknown() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse({"type": "session.create"})
    assert all(type_ in str(caught.value) for type_ in CLIENT_EVENT_TYPES)


def test_roles_have_the_content_that_belongs_to_them() -> None:
    for role, kind in (
        ("user", "input_text"),
        ("system", "input_text"),
        ("assistant", "output_text"),
    ):
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": "Hi"}]}
        event = parse({"type": "conversation.item.create", "item": item})
        assert isinstance(event, ItemCreate) and event.item.role == role


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.sampled_from([*CLIENT_EVENT_TYPES, "other"]),
    st.dictionaries(
        st.sampled_from(["event_id", "session", "audio", "item", "response", "previous_item_id"]),
        json,
    ),
)
def test_no_json_gets_past_with_anything_but_an_event_or_a_protocol_error(
    type_: str, fields: dict[str, Any]
) -> None:
    try:
        event = parse({"type": type_, **fields})
    except ProtocolError:
        return
    assert event.type == type_


_SDK: TypeAdapter[Any] = TypeAdapter(Annotated[RealtimeClientEvent, Field(discriminator="type")])


def test_the_sdk_s_own_events_are_understood() -> None:
    for event in (
        {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}},
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        {"type": "input_audio_buffer.commit"},
        {"type": "conversation.item.create", "item": MESSAGE},
        {"type": "response.create", "response": {"instructions": "Sing."}},
        {"type": "response.cancel"},
    ):
        dumped = _SDK.validate_python(event).model_dump(exclude_none=True)
        assert parse(dumped).type == event["type"]
