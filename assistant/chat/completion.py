"""A chat completion in OpenAI's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

import orjson

from assistant.api_errors import error_type
from assistant.chat.exchange import Failure
from assistant.chat.requests import ChatRequest, parse_request
from assistant.engines.engine import Finished, ReplyEvent, Started, Text, ToolCall, Usage

Json = dict[str, Any]


@dataclass(slots=True)
class Completion:
    """An Exchange."""

    id: str
    model: str
    created_s: int
    """Since 1970."""
    _usage_streamed: bool = False
    _texts: list[str] = field(default_factory=list)
    _calls: list[Json] = field(default_factory=list)
    _finished: Finished | None = None

    def parse(self, body: Any) -> ChatRequest:
        asked = parse_request(body)
        self._usage_streamed = asked.usage_streamed
        return asked

    def opening(self) -> bytes:
        return _event(self._chunk({"role": "assistant", "content": ""}))

    def take(self, event: ReplyEvent) -> bytes:
        match event:
            case Started():
                return b""
            case Text(text=text):
                self._texts.append(text)
                return _event(self._chunk({"content": text}))
            case ToolCall():
                call = {
                    "id": event.call_id,
                    "type": "function",
                    "function": {"name": event.name, "arguments": event.arguments},
                }
                self._calls.append(call)
                number = len(self._calls) - 1
                return _event(self._chunk({"tool_calls": [{"index": number, **call}]}))
            case Finished():
                self._finished = event
                ending = _event(self._chunk({}, self._finish_reason))
                if self._usage_streamed:
                    usage = usage_object(event.usage)
                    ending += _event({**self._chunk({}), "choices": [], "usage": usage})
                return ending
            case _:
                assert_never(event)

    def closing(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failed(self, failure: Failure) -> Json:
        error = {
            "message": failure.message,
            "type": error_type(failure.status),
            "param": failure.param,
            "code": failure.code,
        }
        return {"error": error}

    def broken_off(self, failure: Failure) -> bytes:
        return _event(self.failed(failure))

    def whole(self) -> Json:
        assert self._finished is not None
        message: Json = {
            "role": "assistant",
            "content": "".join(self._texts) or (None if self._calls else ""),
            "refusal": None,
        }
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self._finish_reason,
        }
        usage = usage_object(self._finished.usage)
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    @property
    def _finish_reason(self) -> str | None:
        if self._finished is None:
            return None
        cut = self._finished.reason == "length"
        return "tool_calls" if self._calls and not cut else self._finished.reason

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, object_: str) -> Json:
        return {"id": self.id, "object": object_, "created": self.created_s, "model": self.model}


def usage_object(usage: Usage) -> Json:
    """What a reply cost."""
    return {
        "prompt_tokens": usage.input.total,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input.total + usage.output_tokens,
        "prompt_tokens_details": {
            "audio_tokens": usage.input.audio,
            "cached_tokens": usage.cached.total,
        },
    }


def _event(data: Json) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
