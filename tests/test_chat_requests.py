"""Requests for chat completions: what is taken, and what is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.chat.requests import ChatRequest, Said, Sound, parse_request
from assistant.conversation import FunctionCall, FunctionOutput, OneTool, Tool
from assistant.errors import ProtocolError

HI = {"role": "user", "content": "Hi"}


def test_the_least() -> None:
    asked = parse_request({"messages": [HI], "temperature": 0.2, "model": "any", "seed": None})
    assert asked == ChatRequest((Said("user", ("Hi",)),), (), "auto", None, False, False)


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
        streamed=True,
        usage_streamed=True,
    )
    heard = [item for item in asked.said[1].items if isinstance(item, Sound)]
    assert [sound.is_url for sound in heard] == [False, True, True]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], ""),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "poet", "content": "Hi"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0"),
        ({"messages": [{"role": "system", "content": [{"type": "input_audio"}]}]}, "messages.0"),
        ({"messages": [HI], "n": 2}, "n"),
        ({"messages": [HI], "modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [HI], "max_tokens": 0}, "max_tokens"),
        ({"messages": [HI], "stop": ["."]}, "stop"),
        ({"messages": [HI], "response_format": {"type": "json_object"}}, "response_format"),
        (
            {"messages": [HI], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
    ],
)
def test_what_is_refused(body: Any, param: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(body)
    assert (caught.value.param or "").startswith(param)
