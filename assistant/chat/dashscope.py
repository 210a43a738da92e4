"""A multimodal generation in DashScope's words.

https://www.alibabacloud.com/help/en/model-studio/qwen-audio shows requests and responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, assert_never

import orjson
from pydantic import Field, ValidationError

from assistant.chat.exchange import Failure
from assistant.chat.requests import ChatRequest, Item, LenientModel, Said, Sound, Unsupported
from assistant.engines.engine import Finished, ReplyEvent, Started, Text, TokenCount, ToolCall
from assistant.errors import ProtocolError
from assistant.realtime.complaints import protocol_error

Json = dict[str, Any]

PATH = "/api/v1/services/aigc/multimodal-generation/generation"


class _Part(LenientModel):
    text: str | None = None
    audio: str | None = None


class _Message(LenientModel):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]


class _Input(LenientModel):
    messages: Annotated[list[_Message], Field(min_length=1)]


class _Parameters(LenientModel):
    incremental_output: bool | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, lt=2)] = None
    result_format: Literal["message"] | None = None
    n: Annotated[int | None, Field(ge=1, le=1)] = None
    stop: Unsupported = None
    tools: Unsupported = None


class _Body(LenientModel):
    input: _Input
    parameters: _Parameters = _Parameters()


@dataclass(slots=True)
class Generation:
    """An Exchange."""

    request_id: str
    streamed: bool
    """The client asks for that by a header."""
    file: Callable[[str], bytes]
    """The content of what was sent ahead, by its oss:// URL. Raises ProtocolError."""
    _incremental: bool = False
    """Each event of the stream has what is new; else, all that there is by then."""
    _input: TokenCount = field(default_factory=TokenCount)
    _texts: list[str] = field(default_factory=list)
    _output_tokens: int = 0
    _finish_reason: str = "null"
    _events: int = 0

    def parse(self, body: Any) -> ChatRequest:
        try:
            asked = _Body.model_validate(body)
        except ValidationError as error:
            raise protocol_error(error, body) from error
        self._incremental = bool(asked.parameters.incremental_output)
        return ChatRequest(
            tuple(map(self._said, asked.input.messages)),
            tools=(),
            tool_choice="auto",
            max_output_tokens=asked.parameters.max_tokens,
            temperature=asked.parameters.temperature,
            streamed=self.streamed,
            usage_streamed=True,
        )

    def opening(self) -> bytes:
        return b""

    def take(self, event: ReplyEvent) -> bytes:
        match event:
            case Started():
                self._input = event.report.prompt
                return b""
            case Text():
                self._texts.append(event.text)
                self._output_tokens += max(1, len(event.ids))
                return self._event(event.text)
            case ToolCall():
                # None was offered.
                return b""
            case Finished():
                self._input = event.usage.input
                self._output_tokens = event.usage.output_tokens
                self._finish_reason = event.reason
                return self._event("")
            case _:
                assert_never(event)

    def closing(self) -> bytes:
        return b""

    def whole(self) -> Json:
        return self._response("".join(self._texts))

    def failed(self, failure: Failure) -> Json:
        code = "InvalidParameter" if failure.status < 500 else "InternalError"
        return refusal(code, failure.message, self.request_id)

    def broken_off(self, failure: Failure) -> bytes:
        return self._framed("error", failure.status, self.failed(failure))

    def _event(self, new: str) -> bytes:
        text = new if self._incremental else "".join(self._texts)
        return self._framed("result", 200, self._response(text))

    def _framed(self, kind: str, status: int, data: Json) -> bytes:
        self._events += 1
        head = f"id:{self._events}\nevent:{kind}\n:HTTP_STATUS/{status}\n"
        if kind == "error":
            # Where the package reads it.
            head += f"status:{status}\n"
        return head.encode() + b"data:" + orjson.dumps(data) + b"\n\n"

    def _response(self, text: str) -> Json:
        content = [{"text": text}] if text else []
        message = {"role": "assistant", "content": content}
        choice = {"finish_reason": self._finish_reason, "message": message}
        return {
            "output": {"choices": [choice]},
            "usage": {
                # Of text alone: audio is counted apart.
                "input_tokens": self._input.text,
                "audio_tokens": self._input.audio,
                "output_tokens": self._output_tokens,
            },
            "request_id": self.request_id,
        }

    def _said(self, message: _Message) -> Said:
        if isinstance(message.content, str):
            return Said(message.role, (message.content,))
        return Said(message.role, tuple(self._item(part, message.role) for part in message.content))

    def _item(self, part: _Part, role: str) -> Item:
        match part:
            case _Part(text=str() as text, audio=None):
                return text
            case _Part(text=None, audio=str() as url) if role == "user":
                if url.startswith("oss://"):
                    return Sound.of(self.file(url))
                return Sound.of(url, is_url=True)
            case _:
                raise ProtocolError(
                    "Each part of a message's content has a text or, of the user's, an audio.",
                    param="input.messages",
                )


def refusal(code: str, message: str, request_id: str) -> Json:
    """What is said in place of an answer."""
    return {"code": code, "message": message, "request_id": request_id}
