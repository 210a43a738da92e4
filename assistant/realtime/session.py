"""One client's conversation in the Realtime protocol. Pure: no clock, no I/O, no asyncio.

Events come in by `receive` (from the client), `heard` and `flushed` (from the segmenter),
`generated` and `failed` (from the model) and `time`; what is to be done comes back as effects, in
order. `live.py` carries them out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from assistant.conversation import Conversation, Message, Prompt
from assistant.engines.engine import ReplyEvent, ReplyOptions, TokenCount, Usage
from assistant.errors import ProtocolError
from assistant.realtime.effects import (
    ClearHearing,
    Close,
    ConfigureHearing,
    Effect,
    Feed,
    FlushHearing,
    Prefill,
    Send,
)
from assistant.realtime.events import (
    Append,
    Clear,
    ClientEvent,
    Commit,
    ItemCreate,
    ResponseCancel,
    ResponseCreate,
    ResponseParams,
    SessionUpdate,
)
from assistant.realtime.history import History
from assistant.realtime.items import decode_pcm, message_from_item
from assistant.realtime.latency import Speculation, TurnEnd
from assistant.realtime.open_turn import OpenTurn
from assistant.realtime.responder import Responder
from assistant.realtime.response import Event
from assistant.realtime.settings import SessionSettings
from assistant.turns import BARGE_IN_MIN_SPEECH_MS, TurnAction, TurnRules, TurnTaker
from audio_io.endpointer import MAX_TURN_S, TurnDetection
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.segmenter import (
    AudioDropped,
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechEvent,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    Utterance,
)

_DETECTION = TurnDetection(confirm_ms=BARGE_IN_MIN_SPEECH_MS)
# Of the model's context: what is left is for the next turn, 750 tokens where it lasts 30 s, and its
# reply. The hosted API drops to 0.8 by default; lower is more seldom.
FULL, RETAINED = 0.75, 0.5
_NOTHING_SPECIAL = ResponseParams()


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
        defaults: SessionSettings | None = None,
        id: str | None = None,
        speculate: bool = True,
        detection: TurnDetection = _DETECTION,
        now_ms: Callable[[], int] = lambda: 0,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        """`context_tokens`: most that the model takes, prompt and reply together; `settings`: what
        the client begins with; `defaults`: what `null` in an update sets back to, if it is
        something else; `detection`: for what clients have no say in; `now_ms`: a clock, on which
        nothing depends but the times that are told.
        """
        self._new_id = new_id
        self.id = id or new_id("sess")
        self._model = model
        self._context_tokens = context_tokens
        self._settings = settings
        self._defaults = defaults or settings
        self._detection = detection
        self._conversation = Conversation(
            max_messages=limits.max_messages,
            max_audio_s=limits.max_audio_s,
            max_text_chars=limits.max_text_chars,
        )
        self._responder = Responder(
            self._conversation,
            conversation_id=new_id("conv"),
            new_id=new_id,
            send=self._stamped,
            now_ms=now_ms,
        )
        self._history = History(self._conversation, session_id=self.id, send=self._stamped)
        self._turns = TurnTaker(TurnRules(speculate=speculate))
        self._follow_settings()
        self._turn = OpenTurn(new_id)
        self.next_deadline_ms: int | None = now_ms() + limits.max_session_s * 1000
        """When to call `time` next, on the clock of `now_ms`."""

    # What a transport asks about the session.

    @property
    def messages(self) -> tuple[Message, ...]:
        """What has been said so far."""
        return self._conversation.messages

    @property
    def hearing(self) -> TurnDetection | None:
        """How the segmenter is to be set."""
        return self._settings.detection(self._detection)

    def greeting(self) -> Event:
        """`session.created`, the first event on every transport that attaches."""
        return self._send("session.created", session=self._session_object()).event

    # What happens to it.

    def receive(self, event: ClientEvent) -> list[Effect]:
        """An event from the client. Its errors are answered, not raised."""
        try:
            return self._receive(event)
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
        match event:
            case SpeechStarted():
                self._turn.start_sample = event.start_sample
                return self._act(self._turns.speech_started())
            case SpeechConfirmed():
                return self._act(self._turns.speech_confirmed())
            case PartEnded():
                self._turn.add(event.utterance)
                busy = self._responder.id is not None
                return [] if busy else [Prefill(self._prompt(self._turn.message()))]
            case PauseBegan():
                return self._act(self._turns.pause_began(), pause=event.utterance)
            case SpeechResumed():
                return self._act(self._turns.speech_resumed())
            case SpeechStopped() if self._turns.in_doubt:
                self._turn.start_over()
                return self._act(self._turns.speech_dismissed())
            case SpeechStopped():
                end_sample = event.decided_at_sample
                if event.utterance is not None:
                    end_sample = event.utterance.end_sample
                stopped = self._send(
                    "input_audio_buffer.speech_stopped",
                    audio_end_ms=_ms(end_sample),
                    item_id=self._turn.id,
                )
                committed = self._commit_turn(event.utterance)
                as_guessed = self._responder.made_for(self._prompt(), self._options(ahead=True))
                actions = self._turns.speech_stopped(as_guessed=as_guessed)
                end = TurnEnd(_ms(event.speech_end_sample), _ms(event.decided_at_sample))
                return [stopped, *committed, *self._act(actions, end=end)]
            case AudioDropped():
                full = ProtocolError(
                    f"The input audio buffer is full: what comes after its {MAX_TURN_S} s is "
                    "dropped. Commit or clear it.",
                    code="input_audio_buffer_full",
                )
                return self.refused(full)
            case _:
                assert_never(event)

    def flushed(self, utterance: Utterance | None, event_id: str | None) -> list[Effect]:
        """What FlushHearing found: the rest of the turn, None where there was too little."""
        actions = self._act(self._turns.input_taken())
        if utterance is None and self._turn.is_empty:
            empty = ProtocolError(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms "
                "of audio.",
                code="input_audio_buffer_commit_empty",
            )
            return [*actions, *self.refused(empty, event_id)]
        return [*actions, *self._commit_turn(utterance)]

    def generated(self, reply_id: str, event: ReplyEvent) -> list[Effect]:
        """The next event of a reply; what a cancelled one still says is ignored."""
        if reply_id != self._responder.id:
            return []
        return [*self._responder.generated(event), *self._settled()]

    def too_long(self, reply_id: str, taken: TokenCount) -> Prompt | None:
        """The model has no room for the reply's prompt, which takes so many tokens.

        Drops the oldest turns, and returns what to ask for instead; None where nothing can go.
        """
        if reply_id != self._responder.id:
            return None
        before = {message.id for message in self._conversation.messages}
        used = Usage(taken, TokenCount(), output_tokens=0)
        if not self._history.shorten(used, int(self._context_tokens * RETAINED)):
            return None
        left = {message.id for message in self._conversation.messages}
        return self._responder.shortened(before - left)

    def failed(self, reply_id: str, reason: str) -> list[Effect]:
        """The model couldn't make the reply."""
        if reply_id != self._responder.id:
            return []
        return [*self._responder.failed(reason), *self._settled()]

    def time(self, now_ms: int) -> list[Effect]:
        """The clock has reached `next_deadline_ms`."""
        if self.next_deadline_ms is None or now_ms < self.next_deadline_ms:
            return []
        self.next_deadline_ms = None
        expired = ProtocolError(
            "Your session hit the maximum duration. Connect again to go on.",
            code="session_expired",
        )
        return [*self.refused(expired), Close("the session reached its maximum duration")]

    # Client events.

    def _receive(self, event: ClientEvent) -> list[Effect]:
        match event:
            case SessionUpdate():
                return self._update(event)
            case Append():
                samples = decode_pcm(event.audio, param="audio")
                return [Feed(samples, self._settings.audio.input.format.rate)]
            case Commit():
                return [FlushHearing(event.event_id)]
            case Clear():
                self._turn.start_over()
                actions = self._act(self._turns.input_taken())
                return [ClearHearing(), *actions, self._send("input_audio_buffer.cleared")]
            case ItemCreate():
                return self._create_item(event)
            case ResponseCreate():
                if self._turns.replying:
                    raise ProtocolError(
                        "Conversation already has an active response in progress: "
                        f"{self._responder.id}. Wait until the response is finished before "
                        "creating a new one.",
                        code="conversation_already_has_active_response",
                    )
                return self._act(self._turns.requested(), asked=event.response)
            case ResponseCancel():
                named = event.response_id
                if not self._turns.replying or named not in (None, self._responder.id):
                    raise ProtocolError(
                        "Cancellation failed: no active response found"
                        + (f" with the id {named!r}." if named else "."),
                        code="response_cancel_not_active",
                    )
                return self._act(self._turns.cancelled(), reason="client_cancelled")
            case _:
                assert_never(event)

    def _update(self, event: SessionUpdate) -> list[Effect]:
        before = self.hearing
        self._settings = self._settings.updated(event.session, self._defaults)
        self._follow_settings()
        effects: list[Effect] = []
        if self.hearing != before:
            effects.append(ConfigureHearing(self.hearing))
        if self.hearing is None:
            effects += self._act(self._turns.input_taken())
        elif before is None:
            # What was heard without turn detection, and not committed, belongs to no turn.
            self._turn.start_over()
        return [*effects, self._send("session.updated", session=self._session_object())]

    def _follow_settings(self) -> None:
        if (vad := self._settings.turn_detection) is not None:
            rules = self._turns.rules
            rules.create_response = vad.create_response
            rules.interrupt_response = vad.interrupt_response

    def _create_item(self, event: ItemCreate) -> list[Effect]:
        item_id = event.item.id or self._new_id("item")
        if item_id in self._conversation or self._turn.owns(item_id):
            raise ProtocolError(
                f"Error adding item: an item with the id {item_id!r} already exists.",
                code="item_create_duplicate_item_id",
                param="item.id",
            )
        rate_hz = self._settings.audio.input.format.rate
        message = message_from_item(event.item, id=item_id, sample_rate_hz=rate_hz)
        return self._history.create(message, after=event.previous_item_id)

    def _commit_turn(self, last: Utterance | None) -> list[Effect]:
        """The turn, with `last` as its newest part, becomes a message of the conversation."""
        message = self._turn.message(last)
        self._turn.start_over()
        return self._history.commit(message)

    # Replies.

    def _act(
        self,
        actions: list[TurnAction],
        *,
        pause: Utterance | None = None,
        end: TurnEnd | None = None,
        asked: ResponseParams = _NOTHING_SPECIAL,
        reason: str = "turn_detected",
    ) -> list[Effect]:
        """Turn decisions into effects.

        `pause`: the last part of the turn that a reply ahead is for; `end`: of the turn that is
        answered, where it has just been spoken; `asked`: what the client
        wants of this reply; `reason`: why one is interrupted.
        """
        effects: list[Effect] = []
        for action in actions:
            match action:
                case TurnAction.SPECULATE:
                    prompt = self._prompt(self._turn.message(pause))
                    effects += self._responder.start(prompt, self._options(ahead=True))
                case TurnAction.WITHDRAW:
                    effects += self._responder.withdraw()
                case TurnAction.PROMOTE:
                    assert end is not None, "only a turn's end makes a reply ahead real"
                    effects += [*self._responder.promote(end), *self._settled()]
                case TurnAction.ANSWER:
                    prompt = self._prompt(instructions=asked.instructions)
                    options = self._options(asked.max_output_tokens)
                    # Of this turn, since with others the client's request withdraws it.
                    missed = end is not None and TurnAction.WITHDRAW in actions
                    speculation: Speculation = "miss" if missed else "none"
                    effects += self._responder.start(
                        prompt, options, asked.metadata, end, speculation
                    )
                case TurnAction.HOLD:
                    effects += self._responder.hold()
                case TurnAction.RELEASE:
                    effects += [*self._responder.release(), *self._settled()]
                case TurnAction.INTERRUPT:
                    effects += [*self._responder.interrupt(reason), *self._make_room()]
                case TurnAction.ANNOUNCE:
                    started = self._send(
                        "input_audio_buffer.speech_started",
                        audio_start_ms=_ms(self._turn.start_sample),
                        item_id=self._turn.id,
                    )
                    effects.append(started)
                case _:
                    assert_never(action)
        return effects

    def _settled(self) -> list[Effect]:
        """What follows where the reply has come to its end."""
        if self._responder.id is not None:
            return []
        return [*self._make_room(), *self._act(self._turns.finished())]

    def _make_room(self) -> list[Effect]:
        """Drop the oldest turns where the context fills up: many at once, so that this is seldom.

        What is left is computed now, when nobody waits, and not with the next turn.
        """
        used, self._responder.usage = self._responder.usage, None
        if used is None or used.input.total + used.output_tokens <= self._context_tokens * FULL:
            return []
        shortened = self._history.shorten(used, int(self._context_tokens * RETAINED))
        return [Prefill(self._prompt())] if shortened else []

    def _prompt(self, *tentative: Message, instructions: str | None = None) -> Prompt:
        if instructions is None:
            instructions = self._settings.instructions
        return self._conversation.prompt(instructions, *tentative)

    def _options(
        self, limit: int | Literal["inf"] | None = None, *, ahead: bool = False
    ) -> ReplyOptions:
        limit = limit or self._settings.max_output_tokens
        return ReplyOptions(None if limit == "inf" else limit, speculative=ahead)

    # Server events.

    def _send(self, type_: str, **fields: Any) -> Send:
        return self._stamped({"type": type_, **fields})

    def _stamped(self, event: Event) -> Send:
        return Send({"event_id": self._new_id("event"), **event})

    def _session_object(self) -> Event:
        return {
            "object": "realtime.session",
            "id": self.id,
            "model": self._model,
            **self._settings.model_dump(),
        }


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ
