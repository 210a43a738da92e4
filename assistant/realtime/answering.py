"""What the model is asked for in the conversation, and that there is room for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.conversation import Conversation
from assistant.engines.engine import TokenCount
from assistant.prompt import Message, Prompt
from assistant.realtime.effects import Effect, Prefill
from assistant.realtime.events import ResponseParams
from assistant.realtime.history import History
from assistant.realtime.latency import Speculation, TurnEnd
from assistant.realtime.prompting import Model, options_of
from assistant.realtime.responder import Responder
from assistant.realtime.settings import SessionSettings
from assistant.realtime.truncation import Truncation


class Answering:
    """Starts the conversation's replies; where the context fills up, the oldest turns go."""

    def __init__(
        self,
        conversation: Conversation,
        settings: SessionSettings,
        *,
        model: Model,
        responder: Responder,
        history: History,
        session_id: str,
    ) -> None:
        self._conversation = conversation
        self.settings = settings
        """As they are for the next reply."""
        self._model = model
        self._responder = responder
        self._history = history
        self._truncation = Truncation(conversation, model, session_id=session_id)
        self._of_conversation = True
        """Whether the reply that was started last answers the conversation, or its own input."""

    def take_in(self, turn: Message) -> list[Effect]:
        """Let the model have what there is of an open turn."""
        return [Prefill(self._prompt(turn))]

    def speculate(self, turn: Message) -> list[Effect]:
        """Start a reply to what may be a turn, ahead of its end."""
        self._of_conversation = True
        return self._responder.start(self._prompt(turn), options_of(self.settings, ahead=True))

    @property
    def as_guessed(self) -> bool:
        """Whether the reply under way is the one that would be started ahead now."""
        options = options_of(self.settings, ahead=True)
        return self._responder.made_for(self._prompt(), options)

    def answer(
        self,
        asked: ResponseParams,
        given: Sequence[Message] | None,
        end: TurnEnd | None,
        speculation: Speculation,
    ) -> list[Effect]:
        """Start a reply, as asked, to what is `given` or else to all that was said.

        `end` and `speculation`: see `Responder.start`.
        """
        settings = self.settings.for_response(asked)
        messages = self._conversation.messages if given is None else given
        self._of_conversation = given is None
        return self._responder.start(
            self._model.prompt(settings, messages),
            options_of(settings),
            asked.metadata,
            end,
            speculation,
        )

    def make_room(self) -> list[Effect]:
        """A reply has ended: see to it that there is room for another turn.

        What is left is computed now, when nobody waits, and not with that turn.
        """
        used, self._responder.usage = self._responder.usage, None
        if used is None or not self._of_conversation:
            return []
        taken = TokenCount(used.input.text + used.output_tokens, used.input.audio)
        dropped = self._truncation.make_room(taken, self.settings)
        return [*self._history.dropped(dropped), Prefill(self._prompt())] if dropped else []

    def too_long(self, taken: TokenCount) -> tuple[Prompt, list[Effect]] | None:
        """What to ask for instead of the reply under way: see `RealtimeSession.too_long`."""
        if not self._of_conversation:
            return None
        dropped = self._truncation.make_room(taken, self.settings, even_if_it_fits=True)
        if not dropped:
            return None
        return self._responder.shortened(set(dropped)), self._history.dropped(dropped)

    def _prompt(self, *tentative: Message) -> Prompt:
        return self._model.prompt(self.settings, [*self._conversation.messages, *tentative])
