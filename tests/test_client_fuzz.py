"""Whatever a client sends, it is answered: bytes, JSON, events with anything in their fields."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant import metrics
from assistant.engines.engine import Started, Text
from assistant.errors import ProtocolError
from assistant.realtime.effects import Effect, FlushHearing, Send, StartReply
from assistant.realtime.events import CLIENT_EVENT_TYPES, parse_client_event
from tests.test_realtime_session import FINISHED, REPORT, Client, pcm, utterance
from tests.watch import Watch

MAX_BYTES = 10_000

# Names and values that mean something somewhere, in places where they may mean nothing.
WORDS = [
    *("type", "id", "item_id", "event_id", "role", "content", "text", "name", "call_id", "output"),
    *("arguments", "input", "audio", "format", "rate", "turn_detection", "transcription", "tools"),
    *("tool_choice", "metadata", "instructions", "conversation", "truncation", "session", "item"),
    *("previous_item_id", "response", "threshold", "silence_duration_ms", "idle_timeout_ms"),
    *("retention_ratio", "token_limits", "post_instructions", "content_index", "audio_end_ms"),
    *("max_output_tokens", "language", "prompt", "parameters", "create_response", "eagerness"),
]
VALUES = [
    *("realtime", "message", "function_call", "function_call_output", "item_reference", "function"),
    *("user", "system", "assistant", "input_text", "input_audio", "output_text", "server_vad"),
    *("semantic_vad", "audio/pcm", "audio/pcmu", "retention_ratio", "auto", "none", "root", "inf"),
    *("a", "item_1", "item_2", "resp_1", "", "\x00", "\ud7ff", "<|im_start|>", "AAAA"),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, 24_000, 500, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, len(VALUES) - 1).map(lambda index: VALUES[index])
    | st.text(max_size=3)
)
keys = st.integers(0, len(WORDS) - 1).map(lambda index: WORDS[index]) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int, field: str) -> str:
    """A session.update with so many objects in each other, where they may be and where not."""
    value = f'{{"{field}":' * levels + "{}" + "}" * levels
    tool = f'{{"type":"function","name":"f","parameters":{value}}}'
    rest = f',"{field}":{value}' if field != "x" else ""
    return f'{{"type":"session.update","session":{{"tools":[{tool}]{rest}}}}}'


def mutated(event: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The event with something else somewhere in it."""

    @st.composite
    def change(draw: st.DrawFn) -> dict[str, Any]:
        copy = orjson.loads(orjson.dumps(event))
        node = copy
        while True:
            inner = [key for key, value in node.items() if isinstance(value, dict) and value]
            if not inner or draw(st.booleans()):
                break
            node = node[draw(st.sampled_from(inner))]
        key = draw(st.sampled_from(list(node)) | keys)
        if draw(st.booleans()):
            node[key] = draw(values)
        else:
            node.pop(key, None)
        return copy

    return change()


RIGHT: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "instructions": "Be brief.",
            "max_output_tokens": 5,
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "name": "f"},
            "truncation": {
                "type": "retention_ratio",
                "retention_ratio": 0.5,
                "token_limits": {"post_instructions": 100},
            },
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "whisper-1", "language": "en"},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5},
                }
            },
        },
    },
    {"type": "input_audio_buffer.append", "audio": pcm(20)},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "type": "message",
            "id": "a",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hello"},
                {"type": "input_audio", "audio": pcm(200)},
            ],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "c", "output": ""},
    },
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.delete", "item_id": "item_2"},
    {
        "type": "conversation.item.truncate",
        "item_id": "item_2",
        "content_index": 0,
        "audio_end_ms": 0,
    },
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "input": [{"type": "item_reference", "id": "item_1"}],
            "metadata": {"a": "b", "latency.first_token_ms": "x", "latency.speculation": "x"},
            "instructions": "",
        },
    },
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "metadata": {"latency.speech_end_ms": "x", "latency.turn_end_ms": "y"},
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
]
right = st.integers(0, len(RIGHT) - 1).map(lambda index: RIGHT[index])
messages = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=30),
    values.map(orjson.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(CLIENT_EVENT_TYPES)},
        optional={word: values for word in ("event_id", "session", "item", "response", "item_id")},
    ).map(orjson.dumps),
    right.flatmap(mutated).map(orjson.dumps),
    right.map(orjson.dumps),
    st.builds(nested, st.sampled_from([50, 90, 300, 900]), st.sampled_from(["audio", "x"])),
    st.sampled_from([101, 900]).map(lambda levels: b"[" * levels + b"]" * levels),
    st.just(MAX_BYTES + 1).map(lambda size: b" " * size),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(messages, min_size=1, max_size=8))
def test_every_message_is_answered_and_none_breaks_the_session(
    received: list[bytes | str],
) -> None:
    client, watch = Client(takes_tools=True), Watch()

    def carry_out(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    watch.sees(orjson.loads(orjson.dumps(effect.event)))
                    metrics.sent(effect.event)
                case FlushHearing():
                    carry_out(client.session.flushed(utterance(), effect.event_id))
                case StartReply():
                    for event in (Started(REPORT), Text(" so", (1,)), FINISHED):
                        later.append((effect.reply_id, event))

    later: list[tuple[str, Any]] = []
    carry_out(client.speaks())
    for message in received:
        try:
            event = parse_client_event(message, max_bytes=MAX_BYTES)
        except ProtocolError as error:
            carry_out(client.session.refused(error))
        else:
            carry_out(client.session.receive(event))
        while later:
            reply_id, said = later.pop(0)
            carry_out(client.session.generated(reply_id, said))
    assert watch.responses == {}
    assert {message.id for message in client.session.messages} == set(watch.items)
