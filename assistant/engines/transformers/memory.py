"""Which conversation holds which slot, and what it has said: the worker's memory.

There are fewer slots than conversations. The one that has been idle for longest gives its slot to
who needs one; when it speaks again, its whole prompt is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from assistant.engines.transformers.model import Checkpoint, free_bytes
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Slot, Slots
from assistant.errors import EngineError
from audio_io.pcm import Int16Array

# Conversations beyond that many are rebuilt when they speak again.
MAX_SLOTS = 64
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

    def drop_audio(self, wanted: set[str]) -> None:
        """Keep only the audio with these digests."""
        for held in (self.samples, self.encoded):
            for digest in held.keys() - wanted:
                del held[digest]


class Memory:
    """The slots, and who holds them."""

    def __init__(self, pool: Slots) -> None:
        self.pool = pool
        self._conversations: dict[int, Conversation] = {}
        self._free = list(pool.all)
        self._holders: list[Conversation] = []
        """Who holds a slot; the one that has been idle for longest comes first."""
        self._busy: list[Conversation] = []
        self.slots = len(pool.all)
        """Most conversations of which something is kept."""
        self.tokens_per_slot = pool.capacity
        """Most tokens that a conversation may have."""

    def of(self, session_id: int) -> Conversation:
        """What is kept of that conversation, from its first mention on."""
        return self._conversations.setdefault(session_id, Conversation())

    def forget(self, session_id: int) -> None:
        """That conversation has ended."""
        if conversation := self._conversations.pop(session_id, None):
            self._release(conversation)

    def has_room(self, conversation: Conversation, *, side: bool) -> bool:
        """Whether `slot`, or for a side reply `side_slot`, would find one."""
        if conversation.slot is not None and not side:
            return True
        return bool(self._free) or any(holder not in self._busy for holder in self._holders)

    @contextmanager
    def slot(self, conversation: Conversation) -> Iterator[Slot]:
        """The slot of `conversation`, which nobody takes from it in this context.

        Raises EngineError where all slots are in use.
        """
        if conversation.slot is None:
            conversation.slot = self._take()
        else:
            self._holders.remove(conversation)
        self._holders.append(conversation)
        self._busy.append(conversation)
        try:
            yield conversation.slot
        finally:
            self._busy.remove(conversation)

    @contextmanager
    def side_slot(self, conversation: Conversation) -> Iterator[Slot]:
        """A slot for this context alone, with what the conversation's own slot holds."""
        main = conversation.slot
        beside = Conversation()
        try:
            with self.slot(beside) as slot:
                # It may just have been taken from that conversation.
                if main is not None and conversation.slot is main:
                    slot.copy(main, main.length)
                yield slot
        finally:
            self._release(beside)

    def _release(self, conversation: Conversation) -> None:
        if conversation.slot is not None:
            self._holders.remove(conversation)
            conversation.slot.length = 0
            self._free.append(conversation.slot)
            conversation.slot = None

    def _take(self) -> Slot:
        if not self._free:
            idle = [holder for holder in self._holders if holder not in self._busy]
            if not idle:
                raise EngineError(
                    f"The memory holds {self.slots} conversations, and all of them are being "
                    "answered just now. Try again in a moment."
                )
            self._release(idle[0])
        return self._free.pop()


def make_memory(checkpoint: Checkpoint, settings: TransformersSettings) -> Memory:
    """As many slots as fit, each for the model's whole context, or one for as much as fits.

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
    count = min(int(budget // (tokens * checkpoint.cache_shape.bytes_per_token)), MAX_SLOTS)
    try:
        return Memory(Slots(checkpoint, count, tokens))
    except RuntimeError as error:
        # What torch raises where there is too little after all: by `cache_gb`, or by another
        # program that was faster.
        raise EngineError(
            f"For {count} conversations of {tokens} tokens, {device} has too little memory: "
            f"{str(error).splitlines()[0]} A smaller model.transformers.cache_gb would do."
        ) from error
