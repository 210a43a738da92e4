"""One client's conversation in the Realtime protocol. Pure: no clock, no I/O, no asyncio.

Events come in by `receive` (from the client), `heard` and `flushed` (from the segmenter),
`generated` and `failed` (from the model) and `time`; what is to be done comes back as effects, in
order. `live.py` carries them out. Each is passed on to the part that it concerns: `requests.py`
(what a client may ask for), `dialogue.py` (what is said and answered), `beside.py` and
`transcripts.py` (what goes on beside that).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assistant.conversation import Conversation
from assistant.engines.engine import ReplyEvent, TokenCount
from assistant.errors import ProtocolError
from assistant.prompt import Message, Prompt
from assistant.realtime.beside import SideReplies
from assistant.realtime.dialogue import Dialogue
from assistant.realtime.effects import Close, Effect, FlushHearing, Send
from assistant.realtime.events import ClientEvent
from assistant.realtime.prompting import Model, longest_text
from assistant.realtime.requests import Requests
from assistant.realtime.response import Event
from assistant.realtime.settings import SessionSettings
from assistant.realtime.transcripts import Transcripts
from assistant.turns import BARGE_IN_MIN_SPEECH_MS, TurnRules
from audio_io.endpointer import TurnDetection
from audio_io.speech_events import AudioDropped, SpeechEvent, Utterance

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
        answering = Model(model, context_tokens, takes_tools)
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
            model=answering,
            transcripts=self._transcripts,
            session_id=self.id,
            send=self._stamped,
            new_id=new_id,
            now_ms=now_ms,
        )
        self._beside = SideReplies(new_id=new_id, send=self._stamped)
        self._requests = Requests(
            self._dialogue,
            self._beside,
            answering,
            settings,
            session_id=self.id,
            defaults=defaults or settings,
            detection=detection,
            max_chars=longest_text(
                context_tokens=context_tokens, max_text_chars=limits.max_text_chars
            ),
            send=self._stamped,
            new_id=new_id,
        )
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
        return self._requests.hearing

    @property
    def next_deadline_ms(self) -> int | None:
        """When to call `time` next, on the clock of `now_ms`; None once the session is over."""
        if self._expires_ms is None:
            return None
        deadline_ms = self._expires_ms
        if (idle_ms := self._dialogue.idle_deadline_ms) is not None:
            deadline_ms = min(deadline_ms, idle_ms)
        if self._transcripts.waits and (free_ms := self._dialogue.free_at_ms) is not None:
            deadline_ms = min(deadline_ms, free_ms)
        return deadline_ms

    def greeting(self) -> Event:
        """`session.created`, the first event on every transport that attaches."""
        return self._send("session.created", session=self._requests.session_object()).event

    # What happens to it.

    def receive(self, event: ClientEvent) -> list[Effect]:
        """An event from the client. Its errors are answered, not raised."""
        try:
            return self._go_on(self._requests.carry_out(event))
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
            return self._go_on(self._dialogue.timed_out(utterance))
        if utterance is None and self._dialogue.nothing_heard:
            empty = ProtocolError(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms "
                "of audio.",
                code="input_audio_buffer_commit_empty",
            )
            return self._go_on([*self._dialogue.taken(), *self.refused(empty, event_id)])
        return self._go_on(self._dialogue.committed(utterance))

    def generated(self, reply_id: str, event: ReplyEvent) -> list[Effect]:
        """The next event of a reply; what a cancelled one still says is ignored."""
        if reply_id in self._beside:
            return self._go_on(self._beside.generated(reply_id, event))
        if reply_id in self._transcripts:
            return self._go_on(self._transcripts.generated(event))
        return self._go_on(self._dialogue.generated(reply_id, event))

    def too_long(self, reply_id: str, taken: TokenCount) -> tuple[Prompt, list[Effect]] | None:
        """The model has no room for the reply's prompt, which takes so many tokens.

        Drops the oldest turns, and returns what to ask for instead, with what else is to be done;
        None where nothing can go.
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
        """End as soon as nobody speaks, and no reply or transcript is still to come.

        `reason` is for the client.
        """
        self._leaving = reason
        return self._go_on([])

    def _go_on(self, effects: list[Effect]) -> list[Effect]:
        """What was to be done, and what there is time for now: the next transcription, or to go."""
        if self._transcripts.waits:
            free_ms = self._dialogue.free_at_ms
            if free_ms is not None and free_ms <= self._now_ms():
                effects = [*effects, *self._transcripts.go_on()]
        if self._leaving is None or self._beside or self._transcripts.owed:
            return effects
        return [*effects, Close(self._leaving)] if self._dialogue.is_quiet else effects

    # Server events.

    def _send(self, type_: str, **fields: Any) -> Send:
        return self._stamped({"type": type_, **fields})

    def _stamped(self, event: Event) -> Send:
        return Send({"event_id": self._new_id("event"), **event})
