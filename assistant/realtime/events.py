"""What clients send: the Realtime API's client events, validated. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from assistant.errors import ProtocolError
from assistant.realtime.client_items import InputItem, Item
from assistant.realtime.client_model import MAX_DEPTH, ClientModel, is_too_deep
from assistant.realtime.complaints import protocol_error, unsupported_value
from assistant.realtime.tools import AskedToolChoice, FunctionTool

_MetadataKey = Annotated[str, Field(max_length=64)]
_MetadataValue = Annotated[str, Field(max_length=512)]


class _ClientEvent(ClientModel):
    event_id: str | None = Field(default=None, max_length=512)


class ResponseParams(ClientModel):
    """What a client wants of one response; what is absent or null is as in the session.

    What doesn't apply to text output from an open model is accepted.
    """

    conversation: Literal["auto", "none"] | None = None
    """none: it leaves no trace in the conversation, and runs beside it."""
    input: list[InputItem] | None = None
    """What it answers in the conversation's place."""
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None = None
    metadata: dict[_MetadataKey, _MetadataValue] | None = Field(default=None, max_length=16)
    tool_choice: AskedToolChoice | None = None
    tools: list[FunctionTool] | None = None
    audio: Any = None
    output_modalities: Any = None
    parallel_tool_calls: Any = None
    prompt: Any = None
    reasoning: Any = None


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


class ClearOutput(_ClientEvent):
    type: Literal["output_audio_buffer.clear"]


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
    response: ResponseParams | None = None


class ResponseCancel(_ClientEvent):
    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ClearOutput
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
    if is_too_deep(data):
        raise ProtocolError(
            f"The message is nested more than {MAX_DEPTH} levels deep.", code="invalid_json"
        )
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
            unsupported_value(data["type"], CLIENT_EVENT_TYPES),
            code="invalid_value",
            param="type",
            event_id=event_id,
        )
    try:
        return _CLIENT_EVENT.validate_python(data)
    except ValidationError as error:
        raise protocol_error(error, data, event_id=event_id) from error
