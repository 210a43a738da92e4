"""When the context is full, and how much of it is then kept. Pure."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, assert_never

from assistant.conversation import Conversation
from assistant.engines.engine import TokenCount
from assistant.realtime.prompting import Model
from assistant.realtime.settings import RetentionRatio, SessionSettings

logger = logging.getLogger(__name__)

# Of the model's context: what is left is for the next turn, 750 tokens where it lasts 30 s, and its
# reply. The hosted API drops to 0.8 by default; lower is more seldom.
FULL, RETAINED = 0.75, 0.5


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a conversation, with its instructions."""

    full: int
    """Past this many, the oldest turns go."""
    kept: int
    """Until about this many are left."""

    @classmethod
    def of(
        cls,
        truncation: Literal["auto", "disabled"] | RetentionRatio,
        *,
        context_tokens: int,
        instructions_tokens: int,
    ) -> Budget | None:
        """What a client has asked for; None where nothing may go.

        A client's limit counts without the instructions, and can't be more than there is.
        """
        full = int(context_tokens * FULL)
        match truncation:
            case "auto":
                return cls(full, int(context_tokens * RETAINED))
            case "disabled":
                return None
            case RetentionRatio(retention_ratio=ratio, token_limits=limits):
                said = max(0, full - instructions_tokens)
                if limits and limits.post_instructions is not None:
                    said = min(said, limits.post_instructions)
                return cls(instructions_tokens + said, instructions_tokens + int(said * ratio))
            case _:
                assert_never(truncation)


class Truncation:
    """Drops the oldest turns where the context fills up: many at once, so that this is seldom."""

    def __init__(self, conversation: Conversation, model: Model, *, session_id: str) -> None:
        self._conversation = conversation
        self._model = model
        self._session_id = session_id

    def make_room(
        self, used: TokenCount, settings: SessionSettings, *, even_if_it_fits: bool = False
    ) -> list[str]:
        """Shorten the conversation, which takes `used` with its instructions, where it must be.

        Returns the ids of the messages that went.
        """
        fixed = self._model.fixed_chars(settings)
        share = fixed / (fixed + self._conversation.written_chars + 1)
        instructions_tokens = round(used.text * share)
        budget = Budget.of(
            settings.truncation,
            context_tokens=self._model.context_tokens,
            instructions_tokens=instructions_tokens,
        )
        if budget is None or (used.total <= budget.full and not even_if_it_fits):
            return []
        dropped = self._conversation.shorten(
            text_tokens=used.text - instructions_tokens,
            audio_tokens=used.audio,
            to_tokens=budget.kept - instructions_tokens,
        )
        if dropped:
            logger.info(
                "%s: %d tokens fill the context; dropped the oldest %d messages",
                self._session_id,
                used.total,
                len(dropped),
            )
        return dropped
