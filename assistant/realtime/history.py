"""How items come into the conversation, and what clients are told of it. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from assistant.conversation import Conversation, Message
from assistant.engines.engine import Usage
from assistant.errors import ProtocolError
from assistant.realtime.effects import Effect
from assistant.realtime.items import item_from_message
from assistant.realtime.response import Event

logger = logging.getLogger(__name__)


class History:
    """Adds complete messages to the conversation and announces them as items.

    Replies come into it as they are made: see `responder.py`.
    """

    def __init__(
        self, conversation: Conversation, *, session_id: str, send: Callable[[Event], Effect]
    ) -> None:
        self._conversation = conversation
        self._session_id = session_id
        self._send = send

    def create(self, message: Message, *, after: str | None) -> list[Effect]:
        """A client's item, behind the one with the id `after`, "root" for first, None for last.

        No item may have its id. Raises ProtocolError where there is none to be behind.
        """
        if after is None:
            return self._announced(message, self._conversation.add(message))
        try:
            previous_id = self._conversation.insert(
                message, after=None if after == "root" else after
            )
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

    def shorten(self, used: Usage, to_tokens: int) -> bool:
        """Drop the oldest turns, of all that takes `used`; returns whether there were any."""
        dropped = self._conversation.shorten(
            text_tokens=used.input.text + used.output_tokens,
            audio_tokens=used.input.audio,
            to_tokens=to_tokens,
        )
        if dropped:
            logger.info(
                "%s: %d tokens fill the context; dropped the oldest %d messages",
                self._session_id,
                used.input.total + used.output_tokens,
                dropped,
            )
        return dropped > 0

    def _announced(self, message: Message, previous_id: str | None) -> list[Effect]:
        if dropped := self._conversation.trim():
            logger.info("%s: dropped the oldest %d messages", self._session_id, dropped)
        item = item_from_message(message)
        return [
            self._send(
                {
                    "type": f"conversation.item.{step}",
                    "previous_item_id": previous_id,
                    "item": item,
                }
            )
            for step in ("added", "done")
        ]
