"""What clients send: the Realtime API's client events, validated. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from assistant.client_json import parse_json
from assistant.errors import ProtocolError
from assistant.realtime.client_items import MAX_ID_CHARS, Id, InputItem, Item
from assistant.realtime.client_model import ClientModel
from assistant.realtime.complaints import protocol_error, unsupported_value
from assistant.realtime.tools import AskedToolChoice, Tools

MAX_INPUT_ITEMS = 1000
"""As many messages as a conversation has by default."""
_MetadataKey = Annotated[str, Field(max_length=64)]
_MetadataValue = Annotated[str, Field(max_length=512)]


class _ClientEvent(ClientModel):
    event_id: Id | None = None


class ResponseParams(ClientModel):
    """What a client wants of one response; what is absent or null is as in the session.

    What doesn't apply to text output from an open model is accepted.
    """

    conversation: Literal["auto", "none"] | None = None
    """none: it leaves no trace in the conversation, and runs beside it."""
    input: Annotated[list[InputItem], Field(max_length=MAX_INPUT_ITEMS)] | None = None
    """What it answers in the conversation's place."""
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None = None
    metadata: dict[_MetadataKey, _MetadataValue] | None = Field(default=None, max_length=16)
    tool_choice: AskedToolChoice | None = None
    tools: Tools | None = None
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
    previous_item_id: Id | None = None


class ItemRetrieve(_ClientEvent):
    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemDelete(_ClientEvent):
    type: Literal["conversation.item.delete"]
    item_id: Id


class ItemTruncate(_ClientEvent):
    type: Literal["conversation.item.truncate"]
    item_id: Id
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseCreate(_ClientEvent):
    type: Literal["response.create"]
    response: ResponseParams | None = None


class ResponseCancel(_ClientEvent):
    type: Literal["response.cancel"]
    response_id: Id | None = None


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
    written = message.encode(errors="surrogatepass") if isinstance(message, str) else message
    if len(written) > max_bytes:
        raise ProtocolError(
            f"The message has {len(written)} bytes; at most {max_bytes} are taken. Send audio in "
            "smaller pieces.",
            code="message_too_large",
        )
    data = parse_json(written, "The message")
    if not isinstance(data, dict):
        raise ProtocolError("The message is not a JSON object.", code="invalid_json")
    event_id = data.get("event_id")
    event_id = event_id if isinstance(event_id, str) and len(event_id) <= MAX_ID_CHARS else None
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
