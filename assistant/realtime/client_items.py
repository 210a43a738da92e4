"""Conversation items as clients write them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from assistant.realtime.client_model import ClientModel
from assistant.realtime.tools import Name

MAX_ID_CHARS = 512
"""Far more than any server's, to keep what comes from elsewhere."""
MAX_PARTS = 64
"""Of one message: of sound alone, half an hour."""

Id = Annotated[str, Field(max_length=MAX_ID_CHARS)]


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


class OutputAudio(ClientModel):
    """A reply that was spoken elsewhere: its words are what counts here."""

    type: Literal["output_audio"]
    transcript: str
    audio: Any = None


_PARTS = Field(min_length=1, max_length=MAX_PARTS)


class _Item(ClientModel):
    id: str | None = Field(default=None, min_length=1, max_length=64)
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class SystemItem(_Item):
    type: Literal["message"]
    role: Literal["system"]
    content: Annotated[list[InputText], _PARTS]


class UserItem(_Item):
    type: Literal["message"]
    role: Literal["user"]
    content: Annotated[list[Annotated[InputText | InputAudio, Field(discriminator="type")]], _PARTS]


class AssistantItem(_Item):
    type: Literal["message"]
    role: Literal["assistant"]
    content: Annotated[
        list[Annotated[OutputText | OutputAudio, Field(discriminator="type")]], _PARTS
    ]


class FunctionCallItem(_Item):
    type: Literal["function_call"]
    call_id: Id | None = Field(default=None, min_length=1)
    name: Name
    arguments: str


class FunctionOutputItem(_Item):
    type: Literal["function_call_output"]
    call_id: Id
    output: str


class ItemReference(ClientModel):
    """An item of the conversation, by its id."""

    type: Literal["item_reference"]
    id: Id


_Message = Annotated[SystemItem | UserItem | AssistantItem, Field(discriminator="role")]

Item = Annotated[_Message | FunctionCallItem | FunctionOutputItem, Field(discriminator="type")]
"""What `conversation.item.create` takes."""

InputItem = Annotated[
    _Message | FunctionCallItem | FunctionOutputItem | ItemReference, Field(discriminator="type")
]
"""What `response.create` takes as a part of its input."""
