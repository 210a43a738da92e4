"""Where tokens go in a pool: numbers that are written in place, and read as tensors.

A forward drives all else out of the processor's caches; after it, making a tensor takes as long as
a dozen calls. So the places of a decode step are made once, and filled anew for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


class Places:
    """Of n tokens in each of several slots; of tokens of text, also which."""

    def __init__(self, slots: int, count: int, device: torch.device) -> None:
        self._numbers = np.zeros((4, slots, count), np.int64)
        # One for all of them, since on a GPU each would cost a copy.
        self._tensor = torch.from_numpy(self._numbers)
        self._device = device
        self._here = self._tensor.unbind() if device.type == "cpu" else None

    def put(self, row: int, pages: Sequence[int], length: int, page_tokens: int) -> None:
        """The tokens come next in a slot that holds `length`, and has these pages."""
        positions = np.arange(length, length + self._numbers.shape[2])
        whole, offsets = np.divmod(positions, page_tokens)
        self._numbers[:3, row] = np.take(pages, whole), offsets, positions

    def put_one(
        self, row: int, pages: Sequence[int], length: int, page_tokens: int, id_: int
    ) -> None:
        """The same of a single token, one of text."""
        whole, offset = divmod(length, page_tokens)
        self._numbers[:, row, 0] = pages[whole], offset, length, id_

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Each token's page, its offset in there, and its position; of those that were put one by
        one, also their ids. All are int64 (slots, n), on the device.

        They hold until more is put.
        """
        # To a GPU from memory that isn't pinned, so that it may be filled anew as soon as this
        # returns.
        return self._here or self._tensor.to(self._device).unbind()
