"""What is said and what is answered: turns, replies, and the conversation they make. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from assistant.conversation import Conversation
from assistant.engines.engine import ReplyEvent, TokenCount
from assistant.errors import ProtocolError
from assistant.prompt import Message, Prompt
from assistant.realtime.answering import Answering
from assistant.realtime.effects import ClearHearing, Effect, Send
from assistant.realtime.events import ResponseParams
from assistant.realtime.history import History
from assistant.realtime.latency import Speculation, TurnEnd
from assistant.realtime.open_turn import OpenTurn
from assistant.realtime.prompting import Model
from assistant.realtime.quiet import QuietClock
from assistant.realtime.responder import Responder
from assistant.realtime.response import Event
from assistant.realtime.settings import SessionSettings
from assistant.realtime.transcripts import Transcripts
from assistant.turns import TurnAction, TurnRules, TurnTaker
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.speech_events import (
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    Utterance,
)

_NOTHING_SPECIAL = ResponseParams()

Speech = SpeechStarted | SpeechConfirmed | PartEnded | PauseBegan | SpeechResumed | SpeechStopped


class Dialogue:
    """Lets the person and the model take turns, and keeps what both have said."""

    def __init__(
        self,
        conversation: Conversation,
        settings: SessionSettings,
        rules: TurnRules,
        *,
        model: Model,
        transcripts: Transcripts,
        session_id: str,
        send: Callable[[Event], Send],
        new_id: Callable[[str], str],
        now_ms: Callable[[], int],
    ) -> None:
        """`rules`: for what the settings leave open; `send` makes an effect of a server event;
        `now_ms`: see `Responder`.
        """
        self._conversation = conversation
        self._transcripts = transcripts
        self._send = send
        self._responder = Responder(
            conversation,
            conversation_id=new_id("conv"),
            new_id=new_id,
            send=send,
            now_ms=now_ms,
        )
        self._turns = TurnTaker(rules)
        self._turn = OpenTurn(new_id)
        self.history = History(
            conversation,
            self._turn,
            self._responder,
            transcripts,
            session_id=session_id,
            send=send,
        )
        """The items; to delete one, ask `delete_item`."""
        self._answering = Answering(
            conversation,
            settings,
            model=model,
            responder=self._responder,
            history=self.history,
            session_id=session_id,
        )
        self._owed: TurnEnd | None = None
        """The end of the turn that is answered once the reply under way has ended."""
        self._quiet = QuietClock(now_ms)
        self._follow_rules()

    # What is heard.

    @property
    def nothing_heard(self) -> bool:
        """Whether none of the open turn's audio has been handed over yet."""
        return self._turn.is_empty

    def heard(self, event: Speech) -> list[Effect]:
        """The person speaks, pauses, goes on or is done."""
        match event:
            case SpeechStarted():
                self._turn.start_sample = event.start_sample
                return self._act(self._turns.speech_started())
            case SpeechConfirmed():
                return self._act(self._turns.speech_confirmed())
            case PartEnded():
                self._turn.add(event.utterance)
                busy = self._responder.id is not None
                return [] if busy else self._answering.take_in(self._turn.message())
            case PauseBegan():
                self._turn.last = event.utterance
                return self._act(self._turns.pause_began())
            case SpeechResumed():
                return self._act(self._turns.speech_resumed())
            case SpeechStopped() if self._turns.in_doubt:
                self._turn.start_over()
                return self._act(self._turns.speech_dismissed())
            case SpeechStopped():
                end_sample = event.decided_at_sample
                if event.utterance is not None:
                    end_sample = event.utterance.end_sample
                stopped = self._send(self._turn.stopped(end_sample))
                committed = self._commit_turn(event.utterance)
                actions = self._turns.speech_stopped(as_guessed=self._answering.as_guessed)
                end = TurnEnd(_ms(event.speech_end_sample), _ms(event.decided_at_sample))
                self._quiet.heard(is_answered=self._turns.rules.create_response)
                # An answer that has to wait for the reply under way is to this turn all the same.
                self._owed = None if actions else end
                return [stopped, *committed, *self._act(actions, end=end)]
            case _:
                assert_never(event)

    def committed(self, last: Utterance | None) -> list[Effect]:
        """The client takes the turn, with `last` as its newest part, to be an item."""
        self._quiet.heard(is_answered=False)
        return [*self.taken(), *self._commit_turn(last)]

    @property
    def idle_deadline_ms(self) -> int | None:
        """When it will have been quiet for too long, on the clock of `now_ms`."""
        vad = self._answering.settings.turn_detection
        if vad is None or vad.idle_timeout_ms is None:
            return None
        busy = self._turns.speaking or self._responder.id is not None
        return None if busy else self._quiet.deadline_ms(vad.idle_timeout_ms)

    def timed_out(self, silence: Utterance | None) -> list[Effect]:
        """`idle_deadline_ms` has come: the model is to speak up, to what was heard meanwhile."""
        vad = self._answering.settings.turn_detection
        if silence is not None and vad is not None and vad.idle_timeout_ms is not None:
            silence = silence.newest(vad.idle_timeout_ms)
        triggered = self._send(self._turn.timed_out(silence))
        committed = self.history.commit(self._turn.take(silence))
        return [triggered, *committed, *self._act(self._turns.requested())]

    def taken(self) -> list[Effect]:
        """The client takes what was heard, be it nothing."""
        return self._act(self._turns.input_taken())

    def cleared(self) -> list[Effect]:
        """The client forgets what was heard."""
        self._turn.start_over()
        return [ClearHearing(), *self.taken()]

    # What the client asks for.

    def follow(self, settings: SessionSettings) -> list[Effect]:
        """The client has changed the settings."""
        detected = self._answering.settings.turn_detection is not None
        self._answering.settings = settings
        self._follow_rules()
        if settings.turn_detection is None:
            return self.taken()
        if not detected:
            # What was heard without turn detection, and not committed, belongs to no turn.
            self._turn.start_over()
        return []

    def delete_item(self, item_id: str) -> list[Effect]:
        """Take an item out; a reply that is just saying it ends with it. Raises ProtocolError."""
        writing = self._responder.message
        if writing is None or writing.id != item_id:
            return self.history.delete(item_id)
        cancelled = self._cancel()
        # As the reply has ended, room may have been made, and the item have gone with that.
        gone = item_id not in self._conversation
        return cancelled if gone else [*cancelled, *self.history.delete(item_id)]

    def answer(self, asked: ResponseParams, given: Sequence[Message] | None) -> list[Effect]:
        """Start a reply, as asked, to what is `given` or else to all that was said.

        Raises ProtocolError while there is one.
        """
        if self._turns.replying:
            raise ProtocolError(
                "Conversation already has an active response in progress: "
                f"{self._responder.id}. Wait until the response is finished before "
                "creating a new one.",
                code="conversation_already_has_active_response",
            )
        return self._act(self._turns.requested(), asked=asked, given=given)

    def cancel(self, response_id: str | None) -> list[Effect]:
        """Stop the reply with that id, or any. Raises ProtocolError where there is none."""
        if not self._turns.replying or response_id not in (None, self._responder.id):
            raise ProtocolError(
                "Cancellation failed: no active response found"
                + (f" with the id {response_id!r}." if response_id else "."),
                code="response_cancel_not_active",
            )
        return self._cancel()

    # What the model says.

    @property
    def is_quiet(self) -> bool:
        """Whether nobody speaks, and no reply is under way."""
        return not self._turns.speaking and not self._turns.replying

    @property
    def free_at_ms(self) -> int | None:
        """From when on nobody waits for a reply's first token; None while somebody does."""
        if self._turns.replying:
            return 0 if self._responder.has_begun else None
        return self._quiet.reply_expected_until_ms

    def generated(self, reply_id: str, event: ReplyEvent) -> list[Effect]:
        """The next event of a reply; what a cancelled one still says is ignored."""
        if reply_id != self._responder.id:
            return []
        return [*self._responder.generated(event), *self._settled()]

    def too_long(self, reply_id: str, taken: TokenCount) -> tuple[Prompt, list[Effect]] | None:
        """See `RealtimeSession.too_long`."""
        return self._answering.too_long(taken) if reply_id == self._responder.id else None

    def failed(self, reply_id: str, reason: str) -> list[Effect]:
        """The model couldn't make the reply."""
        if reply_id != self._responder.id:
            return []
        return [*self._responder.failed(reason), *self._settled()]

    # Decisions into effects.

    def _cancel(self) -> list[Effect]:
        self._quiet.replied()
        return self._act(self._turns.cancelled(), reason="client_cancelled")

    def _follow_rules(self) -> None:
        if (vad := self._answering.settings.turn_detection) is not None:
            rules = self._turns.rules
            rules.create_response = vad.create_response
            rules.interrupt_response = vad.interrupt_response

    def _commit_turn(self, last: Utterance | None) -> list[Effect]:
        """The turn, with `last` as its newest part, becomes a message of the conversation."""
        message = self._turn.take(last)
        how = self._answering.settings.audio.input.transcription
        wanted = self._transcripts.want(message, how) if how else []
        return [*self.history.commit(message), *wanted]

    def _act(
        self,
        actions: list[TurnAction],
        *,
        end: TurnEnd | None = None,
        asked: ResponseParams = _NOTHING_SPECIAL,
        given: Sequence[Message] | None = None,
        reason: str = "turn_detected",
    ) -> list[Effect]:
        """Turn decisions into effects.

        `end`: of the turn that is answered, where it was spoken; `asked` and `given`: what the
        client wants of this reply, and what it answers; `reason`: why one is interrupted.
        """
        effects: list[Effect] = []
        for action in actions:
            match action:
                case TurnAction.SPECULATE:
                    effects += self._answering.speculate(self._turn.message(self._turn.last))
                case TurnAction.WITHDRAW:
                    effects += self._responder.withdraw()
                case TurnAction.PROMOTE:
                    assert end is not None, "only a turn's end makes a reply ahead real"
                    effects += [*self._responder.promote(end), *self._settled()]
                case TurnAction.ANSWER:
                    # Of this turn, since with others the client's request withdraws it.
                    missed = end is not None and TurnAction.WITHDRAW in actions
                    speculation: Speculation = "miss" if missed else "none"
                    effects += self._answering.answer(asked, given, end, speculation)
                case TurnAction.HOLD:
                    effects += self._responder.hold()
                case TurnAction.RELEASE:
                    effects += [*self._responder.release(), *self._settled()]
                case TurnAction.INTERRUPT:
                    interrupted = self._responder.interrupt(reason)
                    effects += [*interrupted, *self._answering.make_room()]
                case TurnAction.ANNOUNCE:
                    effects.append(self._send(self._turn.started()))
                case _:
                    assert_never(action)
        return effects

    def _settled(self) -> list[Effect]:
        """What follows where the reply has come to its end."""
        if self._responder.id is not None:
            return []
        self._quiet.replied()
        owed, self._owed = self._owed, None
        return [*self._answering.make_room(), *self._act(self._turns.finished(), end=owed)]


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ
