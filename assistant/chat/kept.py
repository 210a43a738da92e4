"""Conversations that clients send whole each time, known again by what was said.

So each goes on in the model session that holds what was computed for it. What was said last may be
said otherwise, or asked for again: one reply may be lost by that. A conversation that would lose
more is somebody else's that began the same, and is left as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from assistant.chat.requests import Said
from assistant.engines.engine import Engine, ModelSession
from assistant.errors import RefusedError
from assistant.prompt import Message


@dataclass(eq=False, slots=True)
class KeptConversation:
    """A model session, and what it has heard and said."""

    session: ModelSession
    said: list[Said] = field(default_factory=list)
    """Without the sound: its digest is enough."""
    messages: list[Message] = field(default_factory=list)
    """The same, one for one, as the model knows them: with audio, and with a reply's tokens."""
    is_busy: bool = True

    def common(self, said: Sequence[Said]) -> int:
        """How many messages `said` begins with that were said here."""
        pairs = zip(self.said, said, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    def replies_after(self, length: int) -> int:
        """How many replies are among what came later. Their calls are messages of their own."""
        roles = (message.role for message in self.said[length:])
        return sum(role == "assistant" for role, _ in itertools.groupby(roles))

    def cut(self, length: int) -> None:
        """Forget what came later."""
        del self.said[length:], self.messages[length:]

    def add(self, said: Said, message: Message) -> None:
        self.said.append(said)
        self.messages.append(message)


class KeptConversations:
    """At most so many, those that were used last."""

    def __init__(self, engine: Engine, max_conversations: int) -> None:
        self._engine = engine
        self._max_conversations = max_conversations
        self._kept: list[KeptConversation] = []
        """The one that wasn't used for longest comes first."""
        self._opening = 0

    @asynccontextmanager
    async def take(self, said: Sequence[Said]) -> AsyncIterator[KeptConversation]:
        """The conversation that `said` goes on with, cut to what they have in common; or a new one.

        It is the caller's for as long as the context is open. Raises RefusedError where all are
        somebody's, EngineError.
        """
        kept = self._known(said) or await self._new()
        kept.is_busy = True
        kept.cut(kept.common(said))
        try:
            yield kept
        finally:
            kept.is_busy = False
            self._kept.remove(kept)
            self._kept.append(kept)

    def _known(self, said: Sequence[Said]) -> KeptConversation | None:
        """The one with the longest beginning in common, and of such the one that loses least.

        One message at least must be the user's: instructions alone are common to many.
        """
        idle = self._idle()
        best = max(idle, key=lambda kept: (kept.common(said), -len(kept.said)), default=None)
        if best is None:
            return None
        common = best.common(said)
        if all(message.role != "user" for message in best.said[:common]):
            return None
        # A new one might take its place: then what they have in common is better kept.
        must_go = self._is_full and best is idle[0]
        return best if must_go or best.replies_after(common) <= 1 else None

    async def _new(self) -> KeptConversation:
        if self._is_full:
            idle = self._idle()
            if not idle:
                raise RefusedError(
                    f"{self._max_conversations} replies are being made, as many as can be at once."
                )
            self._kept.remove(idle[0])
            await self._replaced(idle[0])
        self._opening += 1
        try:
            kept = KeptConversation(await self._engine.open_session())
        finally:
            self._opening -= 1
        self._kept.append(kept)
        return kept

    def _idle(self) -> list[KeptConversation]:
        return [kept for kept in self._kept if not kept.is_busy]

    @property
    def _is_full(self) -> bool:
        return len(self._kept) + self._opening >= self._max_conversations

    async def _replaced(self, kept: KeptConversation) -> None:
        self._opening += 1
        try:
            await kept.session.close()
        finally:
            self._opening -= 1
