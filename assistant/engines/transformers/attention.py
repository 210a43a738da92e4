"""How a decoder attends to pages: the library's own attention, for each slot by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SLOTTED = "slotted"


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens on their way into slots: n into one, or one each into several."""

    pages: torch.Tensor
    """The page that each goes to: int64 (slots, n)."""
    offsets: torch.Tensor
    """Its place in there: the same."""
    positions: torch.Tensor
    """Its place in its slot: the same."""
    reach: list[tuple[list[int], int]]
    """Of each slot, its pages, and how many tokens it holds with these."""

    @property
    def held(self) -> int:
        """How many tokens the longest slot holds without these."""
        return max(end for _, end in self.reach) - self.positions.shape[1]


@dataclass(frozen=True, slots=True)
class Kept:
    """The keys or values of a layer, as they are handed from the cache to the attention."""

    numbers: torch.Tensor
    """(pages, heads, tokens, head width)."""
    feed: Feed

    def of_each(self) -> list[torch.Tensor]:
        """What each slot that is fed holds: (1, heads, tokens, head width)."""
        return [self._of(pages, end) for pages, end in self.feed.reach]

    def _of(self, pages: list[int], end: int) -> torch.Tensor:
        first, size = pages[0], self.numbers.shape[2]
        if end <= size:
            return self.numbers[first : first + 1, :, :end]
        pieces = [
            self.numbers[page : page + 1, :, : end - size * number]
            for number, page in enumerate(pages)
            if size * number < end
        ]
        return torch.cat(pieces, dim=2)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    keys: Any,
    values: Any,
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The library's own attention, for each slot by itself.

    `query`: (slots, heads, n, head width); `keys` and `values` are `Kept`; the mask is that of one
    slot, or none.
    """
    if not isinstance(keys, Kept):
        # An encoder that is a part of the decoder, as Phi-4's is, keeps nothing.
        return sdpa_attention_forward(module, query, keys, values, attention_mask, **options)
    of_each = list(zip(query, keys.of_each(), values.of_each(), strict=True))
    if query.shape[2] == 1:
        # The last token sees all, or all of its window; the mask would be that of the longest.
        attention_mask = None
        if sliding_window:
            of_each = [
                (q, k[:, :, -sliding_window:], v[:, :, -sliding_window:]) for q, k, v in of_each
            ]
    attended = [
        sdpa_attention_forward(module, of_one[None], key, value, attention_mask, **options)[0]
        for of_one, key, value in of_each
    ]
    return torch.cat(attended), None


AttentionInterface.register(SLOTTED, _attend)
AttentionMaskInterface.register(SLOTTED, sdpa_mask)
