"""Conversation items as clients write them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from assistant.realtime.client_model import ClientModel
from assistant.realtime.tools import MAX_NAME_CHARS

MAX_CALL_ID_CHARS = 512
"""Far more than any server's, to keep what comes from elsewhere."""


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


class _Item(ClientModel):
    id: str | None = Field(default=None, min_length=1, max_length=64)
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class SystemItem(_Item):
    type: Literal["message"]
    role: Literal["system"]
    content: Annotated[list[InputText], Field(min_length=1)]


class UserItem(_Item):
    type: Literal["message"]
    role: Literal["user"]
    content: Annotated[
        list[Annotated[InputText | InputAudio, Field(discriminator="type")]], Field(min_length=1)
    ]


class AssistantItem(_Item):
    type: Literal["message"]
    role: Literal["assistant"]
    content: Annotated[
        list[Annotated[OutputText | OutputAudio, Field(discriminator="type")]], Field(min_length=1)
    ]


class FunctionCallItem(_Item):
    type: Literal["function_call"]
    call_id: str | None = Field(default=None, min_length=1, max_length=MAX_CALL_ID_CHARS)
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    arguments: str


class FunctionOutputItem(_Item):
    type: Literal["function_call_output"]
    call_id: str = Field(max_length=MAX_CALL_ID_CHARS)
    output: str


class ItemReference(ClientModel):
    """An item of the conversation, by its id."""

    type: Literal["item_reference"]
    id: str


_Message = Annotated[SystemItem | UserItem | AssistantItem, Field(discriminator="role")]

Item = Annotated[_Message | FunctionCallItem | FunctionOutputItem, Field(discriminator="type")]
"""What `conversation.item.create` takes."""

InputItem = Annotated[
    _Message | FunctionCallItem | FunctionOutputItem | ItemReference, Field(discriminator="type")
]
"""What `response.create` takes as a part of its input."""
