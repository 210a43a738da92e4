"""Which conversation holds which pages, and what it has said: the worker's memory.

A reply is promised the pages that it may come to need, so that none runs out of them on its way. It
takes them as it grows, and where none is free, from the conversation that has been idle for
longest: that one's last tokens go first, and are computed anew when it speaks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from assistant.engines.transformers.slots import Pool, Slot, Units
from assistant.errors import EngineError
from audio_io.pcm import Int16Array


@dataclass(slots=True, eq=False)
class Conversation:
    """What the worker keeps of one conversation."""

    samples: dict[str, Int16Array] = field(default_factory=dict)
    """Its audio by digest: int16 (n,), 16 kHz mono."""
    encoded: dict[str, torch.Tensor] = field(default_factory=dict)
    """The same as the model's encoder gives it: (tokens, width)."""
    slot: Slot | None = None
    """What is computed of it, from its first reply on."""

    def drop_audio(self, wanted: set[str]) -> None:
        """Keep only the audio with these digests."""
        for held in (self.samples, self.encoded):
            for digest in held.keys() - wanted:
                del held[digest]


class Memory:
    """The pool, and who holds what of it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        pool.pages.reclaim = self._reclaim
        self._conversations: dict[int, Conversation] = {}
        self._holders: list[Conversation] = []
        """Who has a slot; the one that has been idle for longest comes first."""
        self._promised: dict[Slot, int] = {}
        """How many pages each slot that is in use may come to hold."""

    @property
    def tokens_per_slot(self) -> int:
        """Most tokens that a conversation may have."""
        return self.pool.capacity

    def of(self, session_id: int) -> Conversation:
        """What is kept of that conversation, from its first mention on."""
        return self._conversations.setdefault(session_id, Conversation())

    def forget(self, session_id: int) -> None:
        """That conversation has ended."""
        conversation = self._conversations.pop(session_id, None)
        if conversation and conversation.slot:
            conversation.slot.cut(0)
            self._holders.remove(conversation)

    def has_room(self, tokens: int) -> bool:
        """Whether a reply could be given that takes so many, its prompt among them."""
        promised = sum(self._promised.values())
        return promised + self.pool.pages_for(tokens) <= self.pool.pages.count

    @contextmanager
    def slot(self, conversation: Conversation, units: Units, tokens: int) -> Iterator[Slot]:
        """The slot of `conversation` for a prompt, and for so many tokens with its reply.

        The caller's first is to `keep` of it what it goes on with. Raises EngineError where there
        is no room.
        """
        if conversation.slot is None:
            conversation.slot = Slot(self.pool)
        else:
            self._holders.remove(conversation)
        self._holders.append(conversation)
        with self._in_use(conversation.slot, tokens) as slot:
            if not slot.length:
                self._begin_as_another(slot, units)
            yield slot

    @contextmanager
    def side_slot(self, conversation: Conversation, units: Units, tokens: int) -> Iterator[Slot]:
        """A slot for this context alone, which holds what the conversation's own does.

        As for `slot`.
        """
        with self._in_use(Slot(self.pool), tokens) as slot:
            try:
                if conversation.slot is not None:
                    slot.share(conversation.slot, conversation.slot.length)
                else:
                    self._begin_as_another(slot, units)
                yield slot
            finally:
                slot.cut(0)

    def _begin_as_another(self, slot: Slot, units: Units) -> None:
        """Share what another conversation has computed of the same beginning, in full pages.

        A page that it had to copy first would hold no more than is computed in a moment.
        """
        others = (holder.slot for holder in self._holders if holder.slot)
        other = max(others, key=lambda other: other.in_common(units), default=slot)
        common = other.in_common(units)
        if full := common - common % self.pool.page_tokens:
            slot.share(other, full)

    @contextmanager
    def _in_use(self, slot: Slot, tokens: int) -> Iterator[Slot]:
        if not self.has_room(tokens):
            raise EngineError(
                f"The memory holds {self.pool.pages.count * self.pool.page_tokens} tokens of "
                "conversations, and all of it is in use just now. Try again in a moment."
            )
        self._promised[slot] = self.pool.pages_for(tokens)
        try:
            yield slot
        finally:
            del self._promised[slot]

    def _reclaim(self) -> None:
        """Free a page."""
        for holder in self._holders:
            slot = holder.slot
            assert slot is not None
            while slot not in self._promised and slot.pages:
                slot.cut_a_page()
                if self.pool.pages.free:
                    return
