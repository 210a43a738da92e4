"""How a decoder attends to pages, by one of two ways that compute the same.

`SLOTTED` is the library's own attention, for each slot by itself: it runs anywhere, and where a
slot lies in one page, reads it in place. On a GPU it costs launches for every slot, and a copy of
each that has several pages.

`PAGED` is one launch for all: flash attention as it comes with torch, which finds each slot's pages
by a table. Its arguments are tensors of fixed shapes, so that a step can be recorded. FlexAttention
would have to be compiled, and a kernel of our own to be kept up; this one is neither. It is for
16-bit numbers and, since the kernel that torch brings is FlashAttention 2, for pages of a multiple
of 256 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SLOTTED, PAGED = "slotted", "paged"


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel for pages is told of a feed."""

    pages: torch.Tensor
    """The pages of each slot, in order: int32 (slots, at most)."""
    lengths: torch.Tensor
    """How many tokens each holds with what is fed: int32 (slots,)."""
    queries: torch.Tensor
    """Where the new tokens of each begin among all that are fed, and where they end: int32
    (slots + 1,)."""
    keys: torch.Tensor
    """The same of what each could hold: int32 (slots + 1,)."""

    @classmethod
    def of(cls, pages: torch.Tensor, lengths: torch.Tensor, fed: int, page_tokens: int) -> Table:
        """For slots that are fed so many tokens each."""
        count, most = pages.shape
        ends = torch.arange(count + 1, dtype=torch.int32, device=pages.device)
        return cls(pages, lengths, ends * fed, ends * (most * page_tokens))


# These two aren't frozen, as most else is: they are made at each step, where that has its cost.


@dataclass(slots=True)
class Feed:
    """Tokens on their way into slots: n into one, or one each into several."""

    pages: torch.Tensor
    """The page that each goes to: int64 (slots, n)."""
    offsets: torch.Tensor
    """Its place in there: the same."""
    positions: torch.Tensor
    """Its place in its slot: the same."""
    longest: int
    """Most tokens that a slot holds with these; for `PAGED`, it may be more."""
    reach: Sequence[tuple[Sequence[int], int]] = ()
    """For `SLOTTED`: the pages of each slot, and how many tokens it holds with these."""
    table: Table | None = None
    """The same for `PAGED`."""

    @property
    def held(self) -> int:
        """How many tokens the longest slot holds without these."""
        return self.longest - self.positions.shape[1]


@dataclass(slots=True)
class Kept:
    """The keys or values of a layer, as they are handed from the cache to the attention."""

    numbers: torch.Tensor
    """(pages, heads, tokens, head width)."""
    feed: Feed

    def of_each(self) -> list[torch.Tensor]:
        """What each slot that is fed holds: (1, heads, tokens, head width)."""
        return [self._of(pages, end) for pages, end in self.feed.reach]

    def _of(self, pages: Sequence[int], end: int) -> torch.Tensor:
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
        _attended(module, of_one[None], key, value, attention_mask, **options)
        for of_one, key, value in of_each
    ]
    return torch.cat(attended), None


def _attended(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    **options: Any,
) -> torch.Tensor:
    particular = any(options.get(name) is not None for name in ("position_bias", "softcap"))
    if mask is None or particular or key.device.type != "cpu":
        attended, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
        return attended
    # Where there is a mask, the library copies the keys for all heads that share them, since on a
    # GPU the fast kernels want them so. On a CPU, copying a long conversation takes a good part of
    # the time.
    shared = query.shape[1] != key.shape[1]
    scale = options.get("scaling")
    attended = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=shared
    )
    return attended.transpose(1, 2)


def _attend_to_pages(
    module: torch.nn.Module,
    query: torch.Tensor,
    keys: Any,
    values: Any,
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As `_attend`, for all slots at once. The mask isn't looked at: each token sees what was
    before it, or that part of it which lies in its window.
    """
    if not isinstance(keys, Kept):
        return sdpa_attention_forward(
            module, query, keys, values, attention_mask, scaling=scaling, **options
        )
    table = keys.feed.table
    assert table is not None
    slots, heads, count, _ = query.shape
    # A single token comes last, and sees all. Told so, the kernel lets the heads that share keys
    # take them together.
    window = (-1, -1) if count == 1 else (-1, 0)
    if sliding_window:
        window = (sliding_window - 1, 0)
    attended = varlen_attn(
        query.transpose(1, 2).flatten(0, 1),
        keys.numbers.transpose(1, 2),
        values.numbers.transpose(1, 2),
        table.queries,
        table.keys,
        count,
        keys.feed.longest,
        scale=scaling,
        window_size=window,
        enable_gqa=heads != keys.numbers.shape[1],
        seqused_k=table.lengths,
        block_table=table.pages,
    )
    assert isinstance(attended, torch.Tensor)
    return attended.view(slots, count, heads, -1), None


for name, function in ((SLOTTED, _attend), (PAGED, _attend_to_pages)):
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
