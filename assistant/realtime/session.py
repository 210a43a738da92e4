"""One client's conversation in the Realtime protocol. Pure: no clock, no I/O, no asyncio.

Events come in by `receive` (from the client), `heard` and `flushed` (from the segmenter),
`generated` and `failed` (from the model) and `time`; what is to be done comes back as effects, in
order. `live.py` carries them out. What is said and answered is the Dialogue's; here is what a
client may ask for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from assistant.conversation import Conversation, Message, Prompt
from assistant.engines.engine import ReplyEvent, TokenCount
from assistant.errors import ProtocolError
from assistant.realtime.beside import SideReplies
from assistant.realtime.dialogue import Dialogue
from assistant.realtime.effects import (
    Close,
    ConfigureHearing,
    Effect,
    Feed,
    FlushHearing,
    Send,
)
from assistant.realtime.events import (
    Append,
    Clear,
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
from assistant.realtime.transcripts import Transcripts
from assistant.turns import BARGE_IN_MIN_SPEECH_MS, TurnRules
from audio_io.endpointer import TurnDetection
from audio_io.segmenter import AudioDropped, SpeechEvent, Utterance

_DETECTION = TurnDetection(confirm_ms=BARGE_IN_MIN_SPEECH_MS)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How much one session may hold and how long it may last."""

    max_messages: int
    max_audio_s: float
    max_text_chars: int
    max_session_s: int


def random_id(prefix: str) -> str:
    """An id that nobody can guess: who knows a call's id may read along."""
    return f"{prefix}_{secrets.token_urlsafe(15)}"


class RealtimeSession:
    """The protocol's state of one conversation. Feed it events; carry out what it returns."""

    def __init__(
        self,
        *,
        model: str,
        context_tokens: int,
        settings: SessionSettings,
        limits: SessionLimits,
        takes_tools: bool = False,
        defaults: SessionSettings | None = None,
        id: str | None = None,
        speculate: bool = True,
        detection: TurnDetection = _DETECTION,
        now_ms: Callable[[], int] = lambda: 0,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        """`context_tokens`: most that the model takes, prompt and reply together; `takes_tools`:
        whether it can call functions; `settings`: what the client begins with; `defaults`: what
        `null` in an update sets back to, if it is something else; `detection`: for what clients
        have no say in; `now_ms`: a clock.
        """
        self._new_id = new_id
        self._now_ms = now_ms
        self.id = id or new_id("sess")
        self._model = Model(model, context_tokens, takes_tools)
        self._settings = settings
        self._defaults = defaults or settings
        self._detection = detection
        conversation = Conversation(
            max_messages=limits.max_messages,
            max_audio_s=limits.max_audio_s,
            max_text_chars=limits.max_text_chars,
        )
        self._transcripts = Transcripts(conversation, new_id=new_id, send=self._stamped)
        self._dialogue = Dialogue(
            conversation,
            settings,
            TurnRules(speculate=speculate),
            model=self._model,
            transcripts=self._transcripts,
            session_id=self.id,
            send=self._stamped,
            new_id=new_id,
            now_ms=now_ms,
        )
        self._beside = SideReplies(new_id=new_id, send=self._stamped)
        self._expires_ms: int | None = now_ms() + limits.max_session_s * 1000
        self._leaving: str | None = None
        """Why the session is to end, once it is."""

    # What a transport asks about the session.

    @property
    def messages(self) -> tuple[Message, ...]:
        """What has been said so far."""
        return self._dialogue.history.messages

    @property
    def hearing(self) -> TurnDetection | None:
        """How the segmenter is to be set."""
        return self._settings.detection(self._detection)

    @property
    def next_deadline_ms(self) -> int | None:
        """When to call `time` next, on the clock of `now_ms`; None once the session is over."""
        if self._expires_ms is None:
            return None
        wanted = self._transcripts.waits and self._leaving is None
        free_ms = self._dialogue.free_at_ms if wanted else None
        deadlines = (self._expires_ms, self._dialogue.idle_deadline_ms, free_ms)
        return min(deadline for deadline in deadlines if deadline is not None)

    def greeting(self) -> Event:
        """`session.created`, the first event on every transport that attaches."""
        return self._send("session.created", session=self._session_object()).event

    # What happens to it.

    def receive(self, event: ClientEvent) -> list[Effect]:
        """An event from the client. Its errors are answered, not raised."""
        try:
            return self._go_on(self._receive(event))
        except ProtocolError as error:
            return self.refused(error, event.event_id)

    def refused(self, error: ProtocolError, event_id: str | None = None) -> list[Effect]:
        """The client's event could not be carried out; the session goes on."""
        return [
            self._send(
                "error",
                error={
                    "type": "invalid_request_error",
                    "code": error.code,
                    "message": str(error),
                    "param": error.param,
                    "event_id": event_id or error.event_id,
                },
            )
        ]

    def heard(self, event: SpeechEvent) -> list[Effect]:
        """Something in the input audio."""
        if isinstance(event, AudioDropped):
            full = ProtocolError(
                "The input audio buffer is full: what comes now is dropped. Commit or clear it.",
                code="input_audio_buffer_full",
            )
            return self.refused(full)
        return self._go_on(self._dialogue.heard(event))

    def flushed(
        self, utterance: Utterance | None, event_id: str | None, *, idle: bool = False
    ) -> list[Effect]:
        """What FlushHearing found: the rest of the turn, None where there was too little."""
        if idle:
            return self._dialogue.timed_out(utterance)
        if utterance is None and self._dialogue.nothing_heard:
            empty = ProtocolError(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms "
                "of audio.",
                code="input_audio_buffer_commit_empty",
            )
            return [*self._dialogue.taken(), *self.refused(empty, event_id)]
        return self._go_on(self._dialogue.committed(utterance))

    def generated(self, reply_id: str, event: ReplyEvent) -> list[Effect]:
        """The next event of a reply; what a cancelled one still says is ignored."""
        if reply_id in self._beside:
            return self._go_on(self._beside.generated(reply_id, event))
        if reply_id in self._transcripts:
            return self._go_on(self._transcripts.generated(event))
        return self._go_on(self._dialogue.generated(reply_id, event))

    def too_long(self, reply_id: str, taken: TokenCount) -> Prompt | None:
        """The model has no room for the reply's prompt, which takes so many tokens.

        Drops the oldest turns, and returns what to ask for instead; None where nothing can go.
        """
        return self._dialogue.too_long(reply_id, taken)

    def failed(self, reply_id: str, reason: str) -> list[Effect]:
        """The model couldn't make the reply."""
        if reply_id in self._beside:
            return self._go_on(self._beside.failed(reply_id, reason))
        if reply_id in self._transcripts:
            return self._go_on(self._transcripts.failed(reason))
        return self._go_on(self._dialogue.failed(reply_id, reason))

    def time(self, now_ms: int) -> list[Effect]:
        """The clock has reached `next_deadline_ms`."""
        if self._expires_ms is None:
            return []
        if now_ms >= self._expires_ms:
            self._expires_ms = None
            expired = ProtocolError(
                "Your session hit the maximum duration. Connect again to go on.",
                code="session_expired",
            )
            return [*self.refused(expired), Close("the session reached its maximum duration")]
        idle_ms = self._dialogue.idle_deadline_ms
        is_idle = idle_ms is not None and idle_ms <= now_ms
        flushed: list[Effect] = [FlushHearing(event_id=None, idle=True)] if is_idle else []
        return self._go_on(flushed)

    def leave(self, reason: str) -> list[Effect]:
        """End as soon as nobody speaks and no reply is under way; `reason` is for the client."""
        self._leaving = reason
        return self._go_on([])

    def _go_on(self, effects: list[Effect]) -> list[Effect]:
        """What was to be done, and what there is time for now: the next transcription, or to go."""
        if self._leaving is not None:
            quiet = self._dialogue.is_quiet and not self._beside
            return [*effects, Close(self._leaving)] if quiet else effects
        free_ms = self._dialogue.free_at_ms
        is_free = free_ms is not None and free_ms <= self._now_ms()
        return [*effects, *(self._transcripts.go_on() if is_free else [])]

    # Client events.

    def _receive(self, event: ClientEvent) -> list[Effect]:
        match event:
            case SessionUpdate():
                return self._update(event)
            case Append():
                sound = decode_sound(event.audio, self._settings.audio.input.format, param="audio")
                return [Feed(sound.samples, sound.sample_rate_hz)]
            case Commit():
                return [FlushHearing(event.event_id)]
            case Clear():
                return [*self._dialogue.cleared(), self._send("input_audio_buffer.cleared")]
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
                return self._create_response(event.response)
            case ResponseCancel():
                if event.response_id and event.response_id in self._beside:
                    return self._beside.cancel(event.response_id)
                return self._dialogue.cancel(event.response_id)
            case _:
                assert_never(event)

    def _update(self, event: SessionUpdate) -> list[Effect]:
        before = self.hearing
        self._settings = self._settings.updated(event.session, self._defaults)
        configure = [ConfigureHearing(self.hearing)] if self.hearing != before else []
        settled = self._dialogue.follow(self._settings)
        updated = self._send("session.updated", session=self._session_object())
        return [*configure, *settled, updated]

    def _create_item(self, event: ItemCreate) -> list[Effect]:
        format = self._settings.audio.input.format
        message = message_from_item(event.item, new_id=self._new_id, format=format, param="item")
        return self._dialogue.history.create(message, after=event.previous_item_id)

    def _create_response(self, asked: ResponseParams) -> list[Effect]:
        given = None
        if asked.input is not None:
            said, format = self._dialogue.history.messages, self._settings.audio.input.format
            given = messages_from_input(asked.input, said, new_id=self._new_id, format=format)
        if asked.conversation != "none":
            return self._dialogue.answer(asked, given)
        settings = self._settings.for_response(asked)
        prompt = self._model.prompt(
            settings, self._dialogue.history.messages if given is None else given
        )
        return self._beside.start(prompt, options_of(settings), asked.metadata)

    # Server events.

    def _send(self, type_: str, **fields: Any) -> Send:
        return self._stamped({"type": type_, **fields})

    def _stamped(self, event: Event) -> Send:
        return Send({"event_id": self._new_id("event"), **event})

    def _session_object(self) -> Event:
        return {
            "object": "realtime.session",
            "id": self.id,
            "model": self._model.name,
            **self._settings.model_dump(),
        }
