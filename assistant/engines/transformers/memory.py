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

from assistant.engines.transformers.model import Checkpoint, free_bytes
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Pool, Slot
from assistant.errors import EngineError
from audio_io.pcm import Int16Array

# Memory beyond that many conversations is left to others.
MAX_CONVERSATIONS = 64
# The kernel that reads pages on a GPU takes multiples of it.
GPU_PAGE_TOKENS = 256
# Below that, a conversation of a few spoken turns doesn't fit.
MIN_TOKENS = 1024
# Of what is free once the model is loaded; the rest is for what is computed in between, and on a
# CPU for all other programs.
SHARE = {"cuda": 0.85, "cpu": 0.5}


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

    def report(self) -> str:
        """How many conversations fit, for people."""
        return f"{self.pool.pages.count // self.pool.pages_for(self.pool.capacity)} conversations"

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
    def slot(self, conversation: Conversation, tokens: int) -> Iterator[Slot]:
        """The slot of `conversation`, which in this context has pages for so many tokens.

        The caller's first is to `keep` of it what it goes on with. Raises EngineError where there
        is no room.
        """
        if conversation.slot is None:
            conversation.slot = Slot(self.pool)
        else:
            self._holders.remove(conversation)
        self._holders.append(conversation)
        with self._in_use(conversation.slot, tokens) as slot:
            yield slot

    @contextmanager
    def side_slot(self, conversation: Conversation, tokens: int) -> Iterator[Slot]:
        """A slot for this context alone, which holds what the conversation's own does.

        As for `slot`.
        """
        with self._in_use(Slot(self.pool), tokens) as slot:
            try:
                if conversation.slot is not None:
                    slot.share(conversation.slot)
                yield slot
            finally:
                slot.cut(0)

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


def page_tokens(device: torch.device, capacity: int) -> int:
    """How large pages are best, for conversations of at most `capacity` tokens."""
    # On a CPU one takes a whole conversation, so that attention finds it in one piece. What isn't
    # written to takes no memory there.
    return GPU_PAGE_TOKENS if device.type == "cuda" else capacity


def make_memory(checkpoint: Checkpoint, settings: TransformersSettings) -> Memory:
    """What fits: conversations of the model's whole context, or one for as much as there is.

    Raises EngineError where that is too little.
    """
    device = checkpoint.device
    budget = free_bytes(device) * SHARE[device.type]
    if settings.cache_gb is not None:
        budget = settings.cache_gb * 1e9
    tokens = min(checkpoint.context_tokens, int(budget // checkpoint.cache_shape.bytes_per_token))
    if tokens < min(MIN_TOKENS, checkpoint.context_tokens):
        least = MIN_TOKENS * checkpoint.cache_shape.bytes_per_token / 1e9
        if settings.cache_gb is not None:
            raise EngineError(
                f"model.transformers.cache_gb is {settings.cache_gb:g}, in which {tokens} tokens "
                f"fit. A conversation takes {least:.2g} at least."
            )
        raise EngineError(
            f"For conversations, {device} has {budget / 1e9:.1f} GB of memory to spare, in which "
            f"{tokens} tokens fit; {least:.2g} GB are the least. End what else uses it, or take a "
            "larger machine."
        )
    size = page_tokens(device, tokens)
    fitting = int(budget // (size * checkpoint.cache_shape.bytes_per_token))
    pages = min(fitting, MAX_CONVERSATIONS * -(-tokens // size))
    try:
        return Memory(Pool(checkpoint, pages, size, min(tokens, pages * size)))
    except RuntimeError as error:
        # What torch raises where there is too little after all: by `cache_gb`, or by another
        # program that was faster.
        raise EngineError(
            f"For {pages * size} tokens of conversations, {device} has too little memory: "
            f"{str(error).splitlines()[0]} A smaller model.transformers.cache_gb would do."
        ) from error
