"""How items come into the conversation and go, and what clients are told of it. Pure."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from assistant.conversation import Conversation
from assistant.errors import ProtocolError
from assistant.prompt import FunctionCall, FunctionOutput, Message
from assistant.realtime.effects import Effect
from assistant.realtime.items import item_from_message, text_of
from assistant.realtime.open_turn import OpenTurn
from assistant.realtime.responder import Responder
from assistant.realtime.response import Event
from assistant.realtime.transcripts import Transcripts

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 1000
"""Items that were dropped: clients may name those that they don't know of yet."""


class History:
    """Adds complete messages to the conversation, shows them, and tells of those that go.

    Replies come into it as they are made: see `response.py`.
    """

    def __init__(
        self,
        conversation: Conversation,
        turn: OpenTurn,
        responder: Responder,
        transcripts: Transcripts,
        *,
        session_id: str,
        send: Callable[[Event], Effect],
    ) -> None:
        """`turn` and `responder`: what is yet to become items; `transcripts`: of those that are."""
        self._conversation = conversation
        self._turn = turn
        self._responder = responder
        self._transcripts = transcripts
        self._session_id = session_id
        self._send = send
        self._dropped: deque[str] = deque(maxlen=MAX_REMEMBERED)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All items, each as far as it has been said."""
        writing = self._responder.message
        return tuple(
            writing if writing and message.id == writing.id else message
            for message in self._conversation.messages
        )

    def create(self, message: Message, *, after: str | None) -> list[Effect]:
        """A client's item, behind the one with the id `after`, "root" for first, None for last.

        Behind one that has been dropped is first, too: the client may not have heard of that yet.
        What the model once said in a reply of the same id, as far as it begins with the same words,
        keeps its tokens. Raises ProtocolError where the id is taken, where there is none to be
        behind, and for the output of a call that is unknown.
        """
        if message.id in self._conversation or self._turn.owns(message.id):
            raise ProtocolError(
                f"Error adding item: an item with the id {message.id!r} already exists.",
                code="item_create_duplicate_item_id",
                param="item.id",
            )
        match message.parts:
            case (FunctionOutput(call_id=call_id),) if not self._called(call_id):
                raise ProtocolError(
                    f"Error adding item: no function call with the call_id {call_id!r} is in the "
                    "conversation.",
                    code="item_create_invalid_call_id",
                    param="item.call_id",
                )
        if text_of(message) and message.role == "assistant":
            parts = self._conversation.said.parts(message.id, text_of(message))
            message = replace(message, parts=parts)
        if after is None:
            return self._announced(message, self._conversation.add(message))
        is_first = after == "root" or (after in self._dropped and after not in self._conversation)
        try:
            previous_id = self._conversation.insert(message, after=None if is_first else after)
        except KeyError as error:
            raise ProtocolError(
                f"Error adding item: the previous item with id {after!r} does not exist.",
                code="item_create_invalid_previous_item_id",
                param="previous_item_id",
            ) from error
        return self._announced(message, previous_id)

    def commit(self, message: Message) -> list[Effect]:
        """A turn of the person's, out of the input audio buffer."""
        previous_id = self._conversation.add(message)
        committed = {
            "type": "input_audio_buffer.committed",
            "item_id": message.id,
            "previous_item_id": previous_id,
        }
        return [self._send(committed), *self._announced(message, previous_id)]

    def retrieve(self, item_id: str) -> list[Effect]:
        """Show an item as it stands, be it one that is still being said.

        Raises ProtocolError where there is none.
        """
        item = item_from_message(self._item(item_id, "retrieve"))
        writing = self._responder.message
        if writing is not None and writing.id == item_id:
            item = item_from_message(writing, status="in_progress")
        return [self._send({"type": "conversation.item.retrieved", "item": item})]

    def delete(self, item_id: str) -> list[Effect]:
        """Take out an item, which no reply is at. Raises ProtocolError where there is none."""
        self._item(item_id, "delete")
        self._conversation.delete(item_id)
        return self._gone(item_id)

    def dropped(self, item_ids: Iterable[str]) -> list[Effect]:
        """There was no room for these any more, and the conversation has them no longer."""
        ids = [*item_ids]
        self._dropped.extend(ids)
        return [effect for item_id in ids for effect in self._gone(item_id)]

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> list[Effect]:
        """Cut the sound of a reply at `audio_end_ms`; since it has none, nothing changes.

        Raises ProtocolError where there is no such reply, or that sound would be longer than none.
        """
        if self._item(item_id, "truncate").role != "assistant":
            raise ProtocolError(
                f"Error truncating item: {item_id!r} is no message of the assistant's.",
                param="item_id",
            )
        if content_index != 0:
            raise ProtocolError(
                f"Error truncating item: {item_id!r} has no content {content_index}.",
                param="content_index",
            )
        if audio_end_ms > 0:
            raise ProtocolError(
                f"Error truncating item: audio content of 0ms is already shorter than "
                f"{audio_end_ms}ms. Replies are text here; to cut one, delete it and create it "
                "again.",
                param="audio_end_ms",
            )
        truncated = {
            "type": "conversation.item.truncated",
            "item_id": item_id,
            "content_index": content_index,
            "audio_end_ms": audio_end_ms,
        }
        return [self._send(truncated)]

    def _gone(self, item_id: str) -> list[Effect]:
        deleted = self._send({"type": "conversation.item.deleted", "item_id": item_id})
        return [*self._transcripts.forget(item_id), deleted]

    def _called(self, call_id: str) -> bool:
        parts = (part for message in self._conversation.messages for part in message.parts)
        return any(isinstance(part, FunctionCall) and part.call_id == call_id for part in parts)

    def _item(self, item_id: str, to: str) -> Message:
        message = self._conversation.get(item_id)
        if message is None:
            raise ProtocolError(
                f"Can't {to} the item: there is none with the id {item_id!r}.",
                code=f"item_{to}_invalid_item_id",
                param="item_id",
            )
        return message

    def _announced(self, message: Message, previous_id: str | None) -> list[Effect]:
        # What is announced is there, and a reply that is being said belongs to the conversation.
        writing = self._responder.message
        keep = {message.id, writing.id} if writing else {message.id}
        if dropped := self._conversation.trim(keep=keep):
            logger.info("%s: dropped the oldest %d messages", self._session_id, len(dropped))
        item = item_from_message(message)
        announced = [
            self._send(
                {
                    "type": f"conversation.item.{step}",
                    "previous_item_id": previous_id,
                    "item": item,
                }
            )
            for step in ("added", "done")
        ]
        return [*announced, *self.dropped(dropped)]
