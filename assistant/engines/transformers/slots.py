"""Slots: what the model has computed of each conversation, kept from turn to turn.

A slot holds the keys and values of one conversation's tokens, in memory that is set aside when the
model is loaded: appending writes in place, and cutting costs nothing.

Several conversations take a decode step together. The weights, which are most of what a step has to
read, are then read once for all; attention, in which conversations have nothing in common, runs for
each slot on exactly the tokens that it holds. So nothing is padded, copied or masked, lengths don't
matter, and each computes what it would compute alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from assistant.engines.transformers.model import Checkpoint

ATTENTION = "slotted"

Units = NDArray[np.int64]
"""A sequence of tokens, by which the model's state after it can be told: (n,).

Text tokens are their ids. The tokens of an audio part are all the same negative number, which
stands for its samples.
"""


class Slot:
    """The computed state of one sequence of tokens."""

    def __init__(self, slots: Slots, row: int) -> None:
        self.row = row
        """Its place among the slots."""
        self.length = 0
        """How many tokens it holds. What lies behind them is left over, and without meaning."""
        self._slots = slots
        self._units: Units = np.zeros(slots.capacity, np.int64)

    def keep(self, units: Units) -> int:
        """Cut what isn't a beginning of `units`, but for its last one, which is to be computed.

        Returns how many tokens are left.
        """
        limit = min(self.length, len(units) - 1)
        differs = np.flatnonzero(self._units[:limit] != units[:limit])
        self.length = int(differs[0]) if len(differs) else limit
        return self.length

    def feed(self, embeddings: torch.Tensor, units: Units) -> torch.Tensor:
        """Take in tokens: their embeddings, (n, width), and what they are.

        Returns the last one's hidden state, (1, width). Where it fails, nothing has been taken in.
        """
        return self._slots.feed([self], embeddings[None], units[None])

    def extend(self, units: Units) -> None:
        """Hold these too; their keys and values have been written."""
        end = self.length + len(units)
        self._units[self.length : end] = units
        self.length = end

    def copy(self, other: Slot, length: int) -> None:
        """Hold the first `length` tokens of `other`."""
        self._slots.copy(other.row, self.row, length)
        self._units[:length] = other._units[:length]
        self.length = length


class Slots:
    """All slots of a model."""

    def __init__(self, checkpoint: Checkpoint, count: int, tokens: int) -> None:
        """`count` slots for `tokens` tokens each. Raises torch.OutOfMemoryError."""
        checkpoint.use_attention(ATTENTION)
        self._checkpoint = checkpoint
        self.capacity = tokens
        """Most tokens that one may hold."""
        shape = checkpoint.cache_shape
        kind: Any = {"dtype": checkpoint.model.dtype, "device": checkpoint.device}
        sizes = [(count, layer.heads, tokens, layer.width) for layer in shape.layers]
        self._layers = [
            _Layer(self, torch.empty(size, **kind), torch.empty(size, **kind)) for size in sizes
        ]
        self._cache = Cache(layers=list(self._layers))
        self.all = [Slot(self, row) for row in range(count)]
        self.fed: Sequence[Slot] = ()
        """Those that are taking in tokens just now."""
        self.places: tuple[torch.Tensor, torch.Tensor]
        """Where these tokens go: rows, int64 (slots, 1), and positions, int64 (slots, n)."""

    def feed(
        self, slots: Sequence[Slot], embeddings: torch.Tensor, units: NDArray[np.int64]
    ) -> torch.Tensor:
        """Have one slot take in n tokens, or several one each.

        Takes their embeddings, (slots, n, width), and units, (slots, n). Returns the hidden states
        of each one's last, (slots, width). Where it fails, nothing has been taken in.
        """
        count = embeddings.shape[1]
        assert len(slots) == 1 or count == 1
        device = embeddings.device
        rows = torch.tensor([[slot.row] for slot in slots], device=device)
        positions = torch.tensor(
            [range(slot.length, slot.length + count) for slot in slots], device=device
        )
        self.fed, self.places = slots, (rows, positions)
        hidden = self._checkpoint.hidden_states(embeddings, positions, self._cache)
        for slot, taken in zip(slots, units, strict=True):
            slot.extend(taken)
        return hidden[:, -1]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of a row to another."""
        for layer in self._layers:
            for numbers in (layer.keys, layer.values):
                assert numbers is not None
                numbers[target, :, :length] = numbers[source, :, :length]


class _Layer(CacheLayerMixin):
    """One layer of all slots, as the library's attention asks for it."""

    is_sliding = False

    def __init__(self, slots: Slots, keys: torch.Tensor, values: torch.Tensor) -> None:
        """`keys`, `values`: (slots, heads, tokens, head width)."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """It is there from the beginning."""

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Write what is new; returns the keys and the values of each slot that is fed."""
        return self._extended(self.keys, key_states), self._extended(self.values, value_states)

    def _extended(self, kept: torch.Tensor | None, new: torch.Tensor) -> list[torch.Tensor]:
        assert kept is not None
        rows, positions = self._slots.places
        # One write for all, since on a GPU each would cost a launch.
        kept[rows, :, positions] = new.transpose(1, 2)
        count = new.shape[2]
        return [kept[slot.row : slot.row + 1, :, : slot.length + count] for slot in self._slots.fed]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return max(slot.length for slot in self._slots.fed)

    def get_max_length(self) -> int:
        return self._slots.capacity


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The library's own attention, for each slot by itself.

    `query`: (slots, heads, n, head width); the mask is that of one slot, or none.
    """
    if query.shape[2] == 1:
        # The last token sees all, or all of its window; the mask would be that of the longest.
        attention_mask = None
        if sliding_window:
            keys = [key[:, :, -sliding_window:] for key in keys]
            values = [value[:, :, -sliding_window:] for value in values]
    attended = [
        sdpa_attention_forward(module, of_one[None], key, value, attention_mask, **options)[0]
        for of_one, key, value in zip(query, keys, values, strict=True)
    ]
    return torch.cat(attended), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
