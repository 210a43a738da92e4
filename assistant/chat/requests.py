"""What clients ask for by chat completions, checked. Pure.

What doesn't change the answer's meaning, such as `top_p`, is taken and left unread: the server's
own settings hold. What would, and isn't supported, is refused. docs/requests.md lists both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from assistant.errors import ProtocolError
from assistant.prompt import FunctionCall, FunctionOutput, OneTool, Role, Tool, ToolChoice
from assistant.realtime.client_model import ClientModel
from assistant.realtime.complaints import protocol_error
from assistant.realtime.tools import check_tool_choice


@dataclass(frozen=True, slots=True)
class Sound:
    """Audio as the client sent it. Equal when the digests are equal."""

    digest: str
    data: str | bytes = field(compare=False, repr=False)
    """A file: its content, that in base64, or its URL (http, https or data)."""
    is_url: bool = field(compare=False)

    @classmethod
    def of(cls, data: str | bytes, *, is_url: bool = False) -> Sound:
        encoded = data.encode(errors="replace") if isinstance(data, str) else data
        return cls(hashlib.blake2b(encoded, digest_size=16).hexdigest(), data, is_url)


Item = str | Sound | FunctionCall | FunctionOutput


@dataclass(frozen=True, slots=True)
class Said:
    """One message as the client sent it; conversations are known again by these."""

    role: Role
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that can be answered."""

    said: tuple[Said, ...]
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    max_output_tokens: int | None
    temperature: float | None
    streamed: bool
    usage_streamed: bool
    """Whether the stream ends with an event that holds the usage."""


class LenientModel(ClientModel):
    """What isn't known of it is left unread."""

    model_config = ConfigDict(extra="ignore")


def _refuse(value: Any) -> Any:
    if value:
        raise PydanticCustomError("unsupported_parameter", "It is not supported")
    return value


Unsupported = Annotated[Any, AfterValidator(_refuse)]
"""It would change the answer, so it may only say that it is not to."""


class _Text(LenientModel):
    type: Literal["text"]
    text: str


class _InputAudio(LenientModel):
    data: str


class _InputAudioPart(LenientModel):
    type: Literal["input_audio"]
    input_audio: _InputAudio


class _AudioUrl(LenientModel):
    url: str


class _AudioUrlPart(LenientModel):
    type: Literal["audio_url"]
    audio_url: _AudioUrl


_TextContent = str | list[_Text]
_Part = Annotated[_Text | _InputAudioPart | _AudioUrlPart, Field(discriminator="type")]


class _System(LenientModel):
    role: Literal["system", "developer"]
    content: _TextContent


class _User(LenientModel):
    role: Literal["user"]
    content: str | Annotated[list[_Part], Field(min_length=1)]


class _Function(LenientModel):
    name: str
    arguments: str


class _ToolCall(LenientModel):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Assistant(LenientModel):
    role: Literal["assistant"]
    content: _TextContent | None = None
    tool_calls: list[_ToolCall] | None = None


class _ToolOutput(LenientModel):
    role: Literal["tool"]
    tool_call_id: str
    content: _TextContent


_Message = Annotated[_System | _User | _Assistant | _ToolOutput, Field(discriminator="role")]


class _FunctionDefinition(LenientModel):
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _ToolDefinition(LenientModel):
    type: Literal["function"]
    function: _FunctionDefinition


class _NamedFunction(LenientModel):
    name: str


class _NamedTool(LenientModel):
    type: Literal["function"]
    function: _NamedFunction


class _ResponseFormat(LenientModel):
    type: Literal["text"]


class _StreamOptions(LenientModel):
    include_usage: bool | None = None


Tokens = Annotated[int | None, Field(ge=1)]


class Body(LenientModel):
    messages: Annotated[list[_Message], Field(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    tools: list[_ToolDefinition] | None = None
    tool_choice: Literal["auto", "none", "required"] | _NamedTool | None = None
    modalities: list[Literal["text"]] | None = None
    n: Annotated[int | None, Field(ge=1, le=1)] = None
    logprobs: Unsupported = None
    stop: Unsupported = None
    functions: Unsupported = None
    response_format: _ResponseFormat | None = None


def parse_request(body: Any) -> ChatRequest:
    """The request in a body of JSON. Raises ProtocolError that names what is wrong."""
    try:
        asked = Body.model_validate(body)
    except ValidationError as error:
        raise protocol_error(error, body) from error
    tools = tuple(
        Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})
        for tool in asked.tools or ()
    )
    choice: ToolChoice = "auto"
    match asked.tool_choice:
        case _NamedTool(function=function):
            choice = OneTool(function.name)
        case "auto" | "none" | "required" as choice:
            pass
    check_tool_choice(choice, tools, param="tool_choice")
    _check_outputs(asked.messages)
    said = tuple(said for message in asked.messages for said in _said(message))
    if not said:
        raise ProtocolError(
            "There is nothing to answer: the messages say nothing.",
            code="nothing_to_answer",
            param="messages",
        )
    return ChatRequest(
        said,
        tools,
        choice,
        asked.max_completion_tokens or asked.max_tokens,
        asked.temperature,
        bool(asked.stream),
        bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _check_outputs(messages: Iterable[_Message]) -> None:
    """Raise ProtocolError where something is told of a call that was none."""
    called: set[str] = set()
    for index, message in enumerate(messages):
        match message:
            case _Assistant(tool_calls=calls):
                called |= {call.id for call in calls or ()}
            case _ToolOutput(tool_call_id=call_id) if call_id not in called:
                param = f"messages[{index}].tool_call_id"
                raise ProtocolError(
                    f"Invalid value for '{param}': no call in the messages before has the id "
                    f"{call_id!r}.",
                    param=param,
                )


def _said(message: _Message) -> Iterator[Said]:
    match message:
        case _System(content=content):
            yield Said("system", (_text(content),))
        case _User(content=str() as content):
            yield Said("user", (content,))
        case _User(content=list() as parts):
            yield Said("user", tuple(map(_item, parts)))
        case _Assistant(content=content, tool_calls=calls):
            if content:
                yield Said("assistant", (_text(content),))
            for call in calls or ():
                name, arguments = call.function.name, call.function.arguments
                yield Said("assistant", (FunctionCall(call.id, name, arguments),))
        case _ToolOutput(tool_call_id=call_id, content=content):
            yield Said("tool", (FunctionOutput(call_id, _text(content)),))


def _item(part: _Part) -> Item:
    match part:
        case _Text(text=text):
            return text
        case _InputAudioPart(input_audio=audio):
            # DashScope's clients put a data: URL here.
            return Sound.of(audio.data, is_url=audio.data[:5].lower() == "data:")
        case _AudioUrlPart(audio_url=audio):
            return Sound.of(audio.url, is_url=True)


def _text(content: _TextContent) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
