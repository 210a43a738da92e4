"""Requests for chat completions: what is taken, and what is refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from assistant.chat.requests import Body, ChatRequest, Said, Sound, parse_request
from assistant.errors import ProtocolError
from assistant.prompt import FunctionCall, FunctionOutput, OneTool, Tool

HI = {"role": "user", "content": "Hi"}


def test_the_least() -> None:
    asked = parse_request({"messages": [HI], "top_p": 0.2, "model": "any", "seed": None})
    assert asked == ChatRequest((Said("user", ("Hi",)),), (), "auto", None, None, False, False)


def test_a_whole_conversation() -> None:
    asked = parse_request(
        {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                        {"type": "input_audio", "input_audio": {"data": "data:;base64,AAAA"}},
                        {"type": "audio_url", "audio_url": {"url": "https://example.org/a.mp3"}},
                        {"type": "text", "text": "What is it?"},
                    ],
                },
                {
                    "role": "assistant",
                    "content": "Let me see.",
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "weather", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 5,
            "max_completion_tokens": 7,
            "temperature": 2,
            "tools": [{"type": "function", "function": {"name": "weather"}}],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "modalities": ["text"],
        }
    )
    sounds = (
        Sound.of("AAAA", is_url=False),
        Sound.of("data:;base64,AAAA", is_url=True),
        Sound.of("https://example.org/a.mp3", is_url=True),
    )
    assert asked == ChatRequest(
        (
            Said("system", ("Be brief.",)),
            Said("user", (*sounds, "What is it?")),
            Said("assistant", ("Let me see.",)),
            Said("assistant", (FunctionCall("a", "weather", "{}"),)),
            Said("tool", (FunctionOutput("a", "rain"),)),
        ),
        tools=(Tool("weather", "", {}),),
        tool_choice=OneTool("weather"),
        max_output_tokens=7,
        temperature=2,
        streamed=True,
        usage_streamed=True,
    )
    heard = [item for item in asked.said[1].items if isinstance(item, Sound)]
    assert [sound.is_url for sound in heard] == [False, True, True]


def test_null_is_as_if_it_was_left_out() -> None:
    function = {"name": "f", "description": None, "parameters": None, "strict": None}
    nothing = dict.fromkeys(
        ("stream", "max_tokens", "tool_choice", "stop", "n", "logprobs", "response_format")
    )
    asked = parse_request(
        {
            "messages": [HI],
            "tools": [{"type": "function", "function": function}],
            "stream_options": {"include_usage": None},
            **nothing,
        }
    )
    said = (Said("user", ("Hi",)),)
    assert asked == ChatRequest(said, (Tool("f", "", {}),), "auto", None, None, False, False)


def of_user(*content: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    ("body", "code", "param", "text"),
    [
        ([], "invalid_type", None, "Invalid type: expected an object, but got an array instead."),
        ({}, "missing_required_parameter", "messages", "Missing required parameter: 'messages'."),
        ({"messages": []}, "empty_array", "messages", "Invalid 'messages': empty array."),
        ({"messages": "Hi"}, "invalid_type", "messages", "expected an array, but got a string"),
        (
            {"messages": [{"role": "user"}]},
            "missing_required_parameter",
            "messages[0].content",
            "Missing required parameter: 'messages[0].content'.",
        ),
        (
            {"messages": [{"content": "Hi"}]},
            "missing_required_parameter",
            "messages[0].role",
            "Missing required parameter: 'messages[0].role'.",
        ),
        (
            {"messages": [{"role": "poet", "content": "Hi"}]},
            "invalid_value",
            "messages[0].role",
            "Invalid value: 'poet'. Supported values are: 'system', 'developer', 'user', "
            "'assistant', and 'tool'.",
        ),
        (
            {"messages": [{"role": "user", "content": 123}]},
            "invalid_type",
            "messages[0].content",
            "expected one of a string or an array, but got an integer instead.",
        ),
        (
            of_user({"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {}}),
            "invalid_value",
            "messages[1].content[1].type",
            "Invalid value: 'image_url'. Supported values are: 'text', 'input_audio', and "
            "'audio_url'.",
        ),
        (
            of_user({"type": "input_audio", "input_audio": "AAAA"}),
            "invalid_type",
            "messages[1].content[0].input_audio",
            "expected an object, but got a string instead.",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "input_audio"}]}]},
            "invalid_value",
            "messages[0].content[0].type",
            "Invalid value: 'input_audio'. Supported values are: 'text'.",
        ),
        (
            {"messages": [HI], "n": 2},
            "integer_above_max_value",
            "n",
            "Invalid 'n': integer above maximum value. Expected a value <= 1, but got 2 instead.",
        ),
        (
            {"messages": [HI], "modalities": ["text", "audio"]},
            "invalid_value",
            "modalities[1]",
            "Invalid value: 'audio'. Supported values are: 'text'.",
        ),
        (
            {"messages": [HI], "max_tokens": 0},
            "integer_below_min_value",
            "max_tokens",
            "Expected a value >= 1, but got 0 instead.",
        ),
        ({"messages": [HI], "max_tokens": "5"}, "invalid_type", "max_tokens", "got a string"),
        (
            {"messages": [HI], "temperature": 2.1},
            "decimal_above_max_value",
            "temperature",
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2.0, but got "
            "2.1 instead.",
        ),
        (
            {"messages": [HI], "temperature": -1},
            "decimal_below_min_value",
            "temperature",
            "Expected a value >= 0.0, but got -1 instead.",
        ),
        (
            {"messages": [HI], "temperature": "hot"},
            "invalid_type",
            "temperature",
            "expected a number, but got a string instead.",
        ),
        ({"messages": [HI], "stream": 1}, "invalid_type", "stream", "expected a boolean"),
        *(
            (
                {"messages": [HI], **unsupported},
                "unsupported_parameter",
                *unsupported,
                "is not supported with this model.",
            )
            for unsupported in (
                {"stop": "."},
                {"stop": ["."]},
                {"logprobs": True},
                {"functions": [{"name": "f"}]},
            )
        ),
        (
            {"messages": [HI], "response_format": {"type": "json_object"}},
            "invalid_value",
            "response_format.type",
            "Invalid value: 'json_object'. Supported values are: 'text'.",
        ),
        (
            {"messages": [HI], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "invalid_value",
            "tool_choice",
            "Invalid value for 'tool_choice': there is no function 'x' among the tools.",
        ),
        (
            {"messages": [HI, {"role": "tool", "tool_call_id": "c", "content": "noon"}]},
            "invalid_value",
            "messages[1].tool_call_id",
            "Invalid value for 'messages[1].tool_call_id': no call in the messages before has the "
            "id 'c'.",
        ),
        (
            {"messages": [{"role": "assistant", "content": None}]},
            "nothing_to_answer",
            "messages",
            "There is nothing to answer: the messages say nothing.",
        ),
        (of_user(), "empty_array", "messages[1].content", "Invalid 'messages[1].content': empty"),
        (
            {"messages": [HI], "tool_choice": "required"},
            "invalid_value",
            "tool_choice",
            "Invalid value for 'tool_choice': 'required', and there are no tools.",
        ),
    ],
)
def test_what_is_refused(body: Any, code: str, param: str | None, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(body)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert text in str(caught.value)


def test_what_becomes_of_each_field_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs/requests.md").read_text()
    _, ours, *_ = re.split(r"^## ", page, flags=re.MULTILINE)
    rows = [set(re.findall(r"`(\w+)`", row)) for row in ours.splitlines() if row.startswith("| `")]
    *read, unread = rows
    known = set(Body.model_fields)
    assert set().union(*read) == known - {"model"}
    assert not unread & known
    assert "top_p" in unread and len(unread) > 20
