"""Slots: what the model has computed of each conversation, kept from turn to turn.

A slot holds the keys and values of one conversation's tokens, in memory that is set aside when the
model is loaded: appending writes in place, and cutting costs nothing. The slots of a layer lie in
one tensor, so that several conversations can take a step together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

from assistant.engines.transformers.model import Checkpoint

Units = NDArray[np.int64]
"""A sequence of tokens, by which the model's state after it can be told: (n,).

Text tokens are their ids. The tokens of an audio part are all the same negative number, which
stands for its samples.
"""


class Slot:
    """The computed state of one sequence of tokens."""

    def __init__(self, checkpoint: Checkpoint, layers: list[tuple[torch.Tensor, torch.Tensor]]):
        """`layers`: keys and values, (1, heads, tokens, head width) each."""
        self._checkpoint = checkpoint
        self._layers = layers
        self._units: Units = np.zeros(layers[0][0].shape[2], np.int64)
        self._cache = Cache(layers=[_SlotLayer(self, *layer) for layer in layers])
        self.capacity = len(self._units)
        self.length = 0
        """How many tokens it holds. What lies behind them is left over, and without meaning."""

    def keep(self, units: Units) -> int:
        """Cut what isn't a beginning of `units`, but for its last one, which is to be computed.

        Returns how many tokens are left.
        """
        limit = min(self.length, len(units) - 1)
        differs = np.flatnonzero(self._units[:limit] != units[:limit])
        self.length = int(differs[0]) if len(differs) else limit
        return self.length

    def feed(self, embeddings: torch.Tensor, units: Units) -> torch.Tensor:
        """Take in tokens: their embeddings, (1, n, width), and what they are.

        Returns the last one's hidden state, (1, width). Where it fails, nothing has been taken in.
        """
        end = self.length + len(units)
        positions = torch.arange(self.length, end, device=embeddings.device)[None]
        hidden = self._checkpoint.hidden_states(embeddings, positions, self._cache)
        self._units[self.length : end] = units
        self.length = end
        return hidden[:, -1]

    def copy(self, other: Slot, length: int) -> None:
        """Hold the first `length` tokens of `other`."""
        for (keys, values), (other_keys, other_values) in zip(
            self._layers, other._layers, strict=True
        ):
            keys[:, :, :length] = other_keys[:, :, :length]
            values[:, :, :length] = other_values[:, :, :length]
        self._units[:length] = other._units[:length]
        self.length = length


class _SlotLayer(CacheLayerMixin):
    """One layer of a slot, as the library's attention asks for it."""

    is_sliding = False

    def __init__(self, slot: Slot, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slot = slot
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """It is there from the beginning."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self._slot.length
        end = start + key_states.shape[2]
        assert self.keys is not None and self.values is not None
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slot.length + query_length, 0

    def get_seq_length(self) -> int:
        return self._slot.length

    def get_max_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[2]


def make_slots(checkpoint: Checkpoint, count: int, tokens: int) -> list[Slot]:
    """`count` slots for `tokens` tokens each. Raises torch.OutOfMemoryError."""
    shape = checkpoint.cache_shape
    layers = [
        tuple(
            torch.empty(
                (count, shape.heads, tokens, shape.head_width),
                dtype=checkpoint.model.dtype,
                device=checkpoint.device,
            )
            for _ in ("keys", "values")
        )
        for _ in range(shape.layers)
    ]
    return [
        Slot(checkpoint, [(keys[i : i + 1], values[i : i + 1]) for keys, values in layers])
        for i in range(count)
    ]
