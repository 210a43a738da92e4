"""Slots: what the model has computed of each conversation, kept from turn to turn.

The keys and values of all tokens lie in one pool of pages, which is set aside when the model is
loaded. A slot is a list of such pages: it takes them as it grows and gives them back as it is cut,
so that a conversation takes what it needs, and no order of coming and going leaves memory that
nobody can use. Appending writes in place, and cutting costs nothing. What is asked beside a
conversation begins with that conversation's own pages, and a new conversation with the full pages
of another that begins the same, as by common instructions; whoever writes first to a page that
several hold goes on in a copy.

Several conversations take a decode step together. The weights, which are most of what a step has to
read, are then read once for all; attention, in which conversations have nothing in common, sees for
each slot exactly the tokens that it holds (`attention.py`). So nothing is padded or masked, lengths
don't matter, and each computes what it would compute alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

from assistant.engines.transformers.attention import PAGED, SLOTTED, Feed, Kept, Table
from assistant.engines.transformers.memory_plan import Plan
from assistant.engines.transformers.model import Checkpoint, LayerShape
from assistant.engines.transformers.pages import Pages
from assistant.engines.transformers.places import Places

Units = NDArray[np.int64]
"""A sequence of tokens, by which the model's state after it can be told: (n,).

Text tokens are their ids. The tokens of an audio part are all the same negative number, which
stands for its samples.
"""


class Slot:
    """The computed state of one sequence of tokens."""

    def __init__(self, pool: Pool) -> None:
        self.length = 0
        """How many tokens it holds. What lies behind them is left over, and without meaning."""
        self.pages: list[int] = []
        """Where they lie, in order: the last page may not be full."""
        self._pool = pool
        self._units: Units = np.zeros(pool.capacity, np.int64)

    def keep(self, units: Units) -> int:
        """Cut what isn't a beginning of `units`, but for its last one, which is to be computed.

        Returns how many tokens are left.
        """
        self.cut(self.in_common(units))
        return self.length

    def in_common(self, units: Units) -> int:
        """How many tokens it holds of `units`, but for the last one."""
        limit = min(self.length, len(units) - 1)
        differs = np.flatnonzero(self._units[:limit] != units[:limit])
        return int(differs[0]) if len(differs) else limit

    def cut(self, length: int) -> None:
        """Keep the first `length` tokens, and the pages that they lie in."""
        self.length = length
        full = -(-length // self._pool.page_tokens)
        self._pool.pages.let_go(self.pages[full:])
        del self.pages[full:]

    def cut_a_page(self) -> None:
        """Let go of the last page."""
        self.cut((len(self.pages) - 1) * self._pool.page_tokens)

    def make_room(self, tokens: int) -> None:
        """Have pages of its own for so many more. Raises EngineError where there are none."""
        pool = self._pool
        whole, begun = divmod(self.length, pool.page_tokens)
        if begun and pool.pages.is_shared(self.pages[whole]):
            self.pages[whole] = pool.writable(self.pages[whole], begun)
        while len(self.pages) * pool.page_tokens < self.length + tokens:
            self.pages.append(pool.pages.take())

    def feed(self, embeddings: torch.Tensor, units: Units) -> torch.Tensor:
        """Take in tokens: their embeddings, (n, width), and what they are.

        Returns their hidden states, (1, n, width). Where it fails, nothing has been taken in.
        """
        count = len(units)
        self.make_room(count)
        hidden = self._pool.feed(self, embeddings)
        self._units[self.length : self.length + count] = units
        self.length += count
        return hidden

    def append(self, id_: int) -> None:
        """Hold a token of text too; its keys and values have been written."""
        self._units[self.length] = id_
        self.length += 1

    def share(self, other: Slot, length: int) -> None:
        """Hold the first `length` tokens of what `other` holds, in the place of nothing."""
        assert not self.pages
        self._units[:length] = other._units[:length]
        self.length = length
        self.pages = other.pages[: self._pool.pages_for(length)]
        self._pool.pages.share(self.pages)


class Pool:
    """The memory of all slots of a model."""

    def __init__(self, checkpoint: Checkpoint, plan: Plan) -> None:
        """Raises torch.OutOfMemoryError."""
        self._checkpoint = checkpoint
        self.plan = plan
        self.page_tokens = plan.page_tokens
        self.capacity = plan.capacity
        """Most tokens that one slot may hold."""
        self.pages = Pages(plan.pages)
        self.spare_page = plan.pages
        """One more, for what nobody asks for."""
        self._layers = [_Layer(self) for _ in checkpoint.cache_shape.layers]
        for layer, shape in zip(self._layers, checkpoint.cache_shape.layers, strict=True):
            layer.keys, layer.values = self._numbers(shape), self._numbers(shape)
        self.cache = Cache(layers=list(self._layers))
        """The library's view of it."""
        self.fed: Feed
        """What is being taken in just now."""
        one_each = functools.partial(Places, count=1, device=checkpoint.device)
        self._places_of_step = functools.cache(one_each)
        """By how many slots take it."""
        self.use(SLOTTED)

    def use(self, attention: str) -> None:
        """Attend by one of the ways of `attention.py`."""
        self.attention = attention
        self._checkpoint.use_attention(attention)

    def pages_for(self, tokens: int) -> int:
        """How many pages so many tokens take."""
        return -(-tokens // self.page_tokens)

    def feed(self, slot: Slot, embeddings: torch.Tensor) -> torch.Tensor:
        """Write the keys and values of what comes next in a slot, which has the room for them.

        Takes their embeddings, (n, width), and returns their hidden states, (1, n, width).
        """
        places = Places(1, len(embeddings), self._checkpoint.device)
        places.put(0, slot.pages, slot.length, self.page_tokens)
        *where, _ = places.tensors()
        self.fed = self._feed([slot], *where)
        return self._checkpoint.hidden_states(embeddings[None], self.fed.positions, self.cache)

    def logits_after(
        self, slots: Sequence[Slot], ids: Sequence[int], hears: Sequence[bool]
    ) -> torch.Tensor:
        """Have each slot take in a token of text; `hears`: whether its prompt has audio.

        Returns the logits of what follows, float32 (slots, vocabulary). Where it fails, nothing has
        been taken in. Raises EngineError where there are no pages left.
        """
        for slot in slots:
            slot.make_room(1)
        places = self._places_of_step(len(slots))
        for row, (slot, id_) in enumerate(zip(slots, ids, strict=True)):
            places.put_one(row, slot.pages, slot.length, self.page_tokens, id_)
        *where, tokens = places.tensors()
        self.fed = self._feed(slots, *where)
        marks = self._checkpoint.marks(hears)
        logits = self._checkpoint.step(tokens, marks, self.fed.positions, self.cache)
        for slot, id_ in zip(slots, ids, strict=True):
            slot.append(id_)
        return logits

    def writable(self, page: int, tokens: int) -> int:
        """Of a page that others hold too, a copy of its first `tokens`.

        It is the page itself where, to make room, the others have let go of it.
        """
        if not self.pages.free:
            # Whoever else holds it may be the one that lets go.
            self.pages.reclaim()
            if not self.pages.is_shared(page):
                return page
        copy = self.pages.take()
        for layer in self._layers:
            for numbers in (layer.keys, layer.values):
                assert numbers is not None
                numbers[copy, :, :tokens] = numbers[page, :, :tokens]
        self.pages.let_go([page])
        return copy

    def _feed(
        self,
        slots: Sequence[Slot],
        pages: torch.Tensor,
        offsets: torch.Tensor,
        positions: torch.Tensor,
    ) -> Feed:
        count = positions.shape[1]
        ends = [slot.length + count for slot in slots]
        reach = [(slot.pages, end) for slot, end in zip(slots, ends, strict=True)]
        table = self._table(slots, ends, count) if self.attention == PAGED else None
        return Feed(pages, offsets, positions, max(ends), reach, table)

    def _table(self, slots: Sequence[Slot], ends: list[int], count: int) -> Table:
        most = max(len(slot.pages) for slot in slots)
        pages = [slot.pages + [0] * (most - len(slot.pages)) for slot in slots]
        kind: Any = {"dtype": torch.int32, "device": self._checkpoint.device}
        tensors = torch.tensor(pages, **kind), torch.tensor(ends, **kind)
        return Table.of(*tensors, fed=count, page_tokens=self.page_tokens)

    def _numbers(self, shape: LayerShape) -> torch.Tensor:
        """What is kept of one layer, keys or values: (pages, heads, tokens, head width)."""
        device = self._checkpoint.device
        kind: Any = {"dtype": self._checkpoint.model.dtype, "device": device}
        pages, tokens = self.pages.count + 1, self.page_tokens
        if device.type == "cpu":
            return torch.empty((pages, shape.heads, tokens, shape.width), **kind)
        # Token by token in memory, as GPU kernels for pages take them; a CPU reads this up to seven
        # times slower.
        return torch.empty((pages, tokens, shape.heads, shape.width), **kind).transpose(1, 2)


class _Layer(CacheLayerMixin):
    """One layer of the pool, as the library's models ask for it."""

    is_sliding = False

    def __init__(self, pool: Pool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pool = pool
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """It is there from the beginning."""

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Kept, Kept]:
        """Write what is new; returns what the attention of `attention.py` takes."""
        return self._extended(self.keys, key_states), self._extended(self.values, value_states)

    def _extended(self, numbers: torch.Tensor | None, new: torch.Tensor) -> Kept:
        assert numbers is not None
        feed = self._pool.fed
        # One write for all, since on a GPU each would cost a launch.
        numbers[feed.pages, :, feed.offsets] = new.transpose(1, 2)
        return Kept(numbers, feed)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._pool.fed.held

    def get_max_length(self) -> int:
        return self._pool.capacity
