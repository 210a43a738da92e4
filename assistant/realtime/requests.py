"""What a client may ask for, event by event. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from assistant.errors import ProtocolError
from assistant.realtime.beside import SideReplies
from assistant.realtime.dialogue import Dialogue
from assistant.realtime.effects import ConfigureHearing, Effect, Feed, FlushHearing
from assistant.realtime.events import (
    Append,
    Clear,
    ClearOutput,
    ClientEvent,
    Commit,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    ResponseCancel,
    ResponseCreate,
    ResponseParams,
    SessionUpdate,
)
from assistant.realtime.items import decode_sound, message_from_item, messages_from_input
from assistant.realtime.prompting import Model, options_of
from assistant.realtime.response import Event
from assistant.realtime.settings import SessionSettings
from audio_io.endpointer import TurnDetection


class Requests:
    """Has a client's wishes carried out, in the conversation and beside it."""

    def __init__(
        self,
        dialogue: Dialogue,
        beside: SideReplies,
        model: Model,
        settings: SessionSettings,
        *,
        session_id: str,
        defaults: SessionSettings,
        detection: TurnDetection,
        max_chars: int,
        send: Callable[[Event], Effect],
        new_id: Callable[[str], str],
    ) -> None:
        """`settings`, `defaults` and `detection`: see `RealtimeSession`; `max_chars`: most of a
        single text."""
        self._dialogue = dialogue
        self._beside = beside
        self._model = model
        self.settings = settings
        """As the client has made them."""
        self._session_id = session_id
        self._defaults = defaults
        self._detection = detection
        self._max_chars = max_chars
        self._send = send
        self._new_id = new_id

    @property
    def hearing(self) -> TurnDetection | None:
        """How the segmenter is to be set."""
        return self.settings.detection(self._detection)

    def session_object(self) -> Event:
        """The session as clients see it."""
        return {
            "object": "realtime.session",
            "id": self._session_id,
            "model": self._model.name,
            **self.settings.model_dump(),
        }

    def carry_out(self, event: ClientEvent) -> list[Effect]:
        """What comes of it. Raises ProtocolError; nothing has changed then."""
        match event:
            case SessionUpdate():
                return self._update(event)
            case Append():
                sound = decode_sound(event.audio, self.settings.audio.input.format, param="audio")
                return [Feed(sound.samples, sound.sample_rate_hz)]
            case Commit():
                return [FlushHearing(event.event_id)]
            case Clear():
                return [
                    *self._dialogue.cleared(),
                    self._send({"type": "input_audio_buffer.cleared"}),
                ]
            case ClearOutput():
                # Where audio goes out, it stops; the response is cancelled by another event.
                return []
            case ItemCreate():
                return self._create_item(event)
            case ItemRetrieve():
                return self._dialogue.history.retrieve(event.item_id)
            case ItemDelete():
                return self._dialogue.delete_item(event.item_id)
            case ItemTruncate():
                return self._dialogue.history.truncate(
                    event.item_id, event.content_index, event.audio_end_ms
                )
            case ResponseCreate():
                return self._create_response(event.response or ResponseParams())
            case ResponseCancel():
                if event.response_id and event.response_id in self._beside:
                    return self._beside.cancel(event.response_id)
                return self._dialogue.cancel(event.response_id)
            case _:
                assert_never(event)

    def _update(self, event: SessionUpdate) -> list[Effect]:
        before = self.hearing
        settings = self.settings.updated(event.session, self._defaults)
        settings.check_texts(self._max_chars)
        self.settings = settings
        configure = [ConfigureHearing(self.hearing)] if self.hearing != before else []
        settled = self._dialogue.follow(self.settings)
        updated = self._send({"type": "session.updated", "session": self.session_object()})
        return [*configure, *settled, updated]

    def _create_item(self, event: ItemCreate) -> list[Effect]:
        message = message_from_item(
            event.item,
            new_id=self._new_id,
            format=self.settings.audio.input.format,
            max_chars=self._max_chars,
            param="item",
        )
        # What a client creates is there at once; that it was cut short may be worth knowing.
        message = replace(message, whole=event.item.status != "incomplete")
        return self._dialogue.history.create(message, after=event.previous_item_id)

    def _create_response(self, asked: ResponseParams) -> list[Effect]:
        settings = self.settings.for_response(asked)
        settings.check_texts(self._max_chars, prefix="response")
        settings.check_tool_choice(prefix="response")
        given = None
        if asked.input is not None:
            given = messages_from_input(
                asked.input,
                self._dialogue.history.messages,
                new_id=self._new_id,
                format=self.settings.audio.input.format,
                # With the instructions, it's one prompt.
                max_chars=self._max_chars - len(settings.instructions),
            )
        prompt = self._model.prompt(
            settings, self._dialogue.history.messages if given is None else given
        )
        if not prompt.messages:
            raise ProtocolError(
                "There is nothing to answer: no item and no instructions.", code="nothing_to_answer"
            )
        if asked.conversation != "none":
            return self._dialogue.answer(asked, given)
        return self._beside.start(prompt, options_of(settings), asked.metadata)
