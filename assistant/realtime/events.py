"""What clients send: the Realtime API's client events, validated. Pure.

Unknown fields are refused as the API refuses them: a misspelt setting that is silently ignored
costs a day.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from assistant.errors import ProtocolError


class ClientModel(BaseModel):
    """Something that a client writes: a string is no number, and 1.0 no integer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _ClientEvent(ClientModel):
    event_id: str | None = Field(default=None, max_length=512)


class InputText(ClientModel):
    type: Literal["input_text"]
    text: str


class InputAudio(ClientModel):
    type: Literal["input_audio"]
    audio: str
    """Base64 in the session's input format."""
    transcript: str | None = None


class OutputText(ClientModel):
    type: Literal["output_text"]
    text: str


class _MessageItem(ClientModel):
    type: Literal["message"]
    id: str | None = Field(default=None, min_length=1, max_length=64)
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class SystemItem(_MessageItem):
    role: Literal["system"]
    content: Annotated[list[InputText], Field(min_length=1)]


class UserItem(_MessageItem):
    role: Literal["user"]
    content: Annotated[
        list[Annotated[InputText | InputAudio, Field(discriminator="type")]], Field(min_length=1)
    ]


class AssistantItem(_MessageItem):
    role: Literal["assistant"]
    content: Annotated[list[OutputText], Field(min_length=1)]


def _item_kind(value: Any) -> str | None:
    """The role of a message item; other items are not taken yet and so match nothing."""
    if not isinstance(value, dict) or value.get("type") != "message":
        return None
    role = value.get("role")
    return role if isinstance(role, str) else None


Item = Annotated[
    Annotated[SystemItem, Tag("system")]
    | Annotated[UserItem, Tag("user")]
    | Annotated[AssistantItem, Tag("assistant")],
    Discriminator(
        _item_kind,
        custom_error_type="item",
        custom_error_message=(
            "Only items with type 'message' and role 'system', 'user' or 'assistant' are taken"
        ),
    ),
]


class ResponseParams(ClientModel):
    """`response.create`'s settings for this one response; what doesn't apply is accepted."""

    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    conversation: Literal["auto"] | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    audio: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Any = None
    tool_choice: Any = None
    tools: list[Any] | None = None


class SessionUpdate(_ClientEvent):
    type: Literal["session.update"]
    session: dict[str, Any]
    """Merged into the session's settings and validated there (`settings.py`)."""


class Append(_ClientEvent):
    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(_ClientEvent):
    type: Literal["input_audio_buffer.commit"]


class Clear(_ClientEvent):
    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_ClientEvent):
    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: str | None = None


class ItemRetrieve(_ClientEvent):
    type: Literal["conversation.item.retrieve"]
    item_id: str


class ItemDelete(_ClientEvent):
    type: Literal["conversation.item.delete"]
    item_id: str


class ItemTruncate(_ClientEvent):
    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseCreate(_ClientEvent):
    type: Literal["response.create"]
    response: ResponseParams = ResponseParams()


class ResponseCancel(_ClientEvent):
    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)
CLIENT_EVENT_TYPES = tuple(
    get_args(member.model_fields["type"].annotation)[0] for member in get_args(ClientEvent)
)
_CLIENT_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(
    Annotated[ClientEvent, Field(discriminator="type")]
)


def parse_client_event(message: str | bytes, *, max_bytes: int) -> ClientEvent:
    """The event that `message` holds.

    Raises ProtocolError with the `event_id` of the message, where it could be read.
    """
    size = len(message)
    if size > max_bytes:
        raise ProtocolError(
            f"The message has {size} bytes; at most {max_bytes} are taken. Send audio in smaller "
            "pieces.",
            code="message_too_large",
        )
    try:
        data = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"The message is not JSON: {error}.", code="invalid_json") from error
    if not isinstance(data, dict):
        raise ProtocolError("The message is not a JSON object.", code="invalid_json")
    event_id = data.get("event_id")
    event_id = event_id if isinstance(event_id, str) else None
    if "type" not in data:
        raise ProtocolError(
            "Missing required parameter: 'type'.",
            code="missing_required_parameter",
            param="type",
            event_id=event_id,
        )
    if data["type"] not in CLIENT_EVENT_TYPES:
        raise ProtocolError(
            f"Invalid value: {data['type']!r}. Supported values are: "
            + ", ".join(map(repr, CLIENT_EVENT_TYPES))
            + ".",
            code="invalid_value",
            param="type",
            event_id=event_id,
        )
    try:
        return _CLIENT_EVENT.validate_python(data)
    except ValidationError as error:
        raise protocol_error(error, data, event_id=event_id) from error


def protocol_error(
    error: ValidationError, data: Any, *, event_id: str | None = None, prefix: str = ""
) -> ProtocolError:
    """The first of pydantic's complaints about `data`, in the Realtime API's words."""
    first = error.errors(include_url=False)[0]
    is_missing = first["type"] == "missing"
    path = ".".join([*([prefix] if prefix else []), *_path(first["loc"], data, is_missing)])
    match first["type"]:
        case "missing":
            code, text = "missing_required_parameter", f"Missing required parameter: '{path}'."
        case "extra_forbidden":
            code, text = "unknown_parameter", f"Unknown parameter: '{path}'."
        case _:
            code, text = "invalid_value", f"Invalid value for '{path}': {first['msg']}."
    return ProtocolError(text, code=code, param=path, event_id=event_id)


def _path(location: tuple[int | str, ...], data: Any, is_missing: bool) -> list[str]:
    """The client's own part of a location: pydantic puts the names of union members into it."""
    path = []
    for part in location:
        match data:
            case dict() if part in data:
                data = data[part]
            case list() if isinstance(part, int):
                data = data[part]
            case _:
                continue
        path.append(str(part))
    return [*path, str(location[-1])] if is_missing else path


def decode_base64(text: str, *, param: str) -> bytes:
    """The bytes that a client wrote in base64. Raises ProtocolError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"'{param}' is not base64: {error}.", param=param) from error
