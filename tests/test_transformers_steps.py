"""Decode steps as a GPU takes them, by a kernel for pages and from rows of numbers.

They give the same tokens. The kernel has no CPU version. In its place is what its documentation
says, which also checks what the kernel itself would refuse. Recording is for a GPU alone; what is
recorded runs here as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from torch.nn.attention.varlen import varlen_attn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers import attention
from assistant.engines.transformers.attention import PAGED, Feed, Kept, Table
from assistant.engines.transformers.decode_step import DecodeStep
from assistant.engines.transformers.fast_steps import fast_steps
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.step_sizes import lengths
from assistant.prompt import Prompt
from tests.dialogue import prompt, user
from tests.model_card import ModelCard
from tests.test_transformers_models import FIRST, SECOND, Model
from tests.test_transformers_models import model as model
from tests.test_transformers_session import (
    LIMITS,
    ON_CPU,
    Conversations,
    check,
    events_of,
    generator_of,
    go_on,
    start,
)


def documented(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` is said to compute, for pages."""
    slots, most = block_table.shape
    for integers, size in ((cu_seq_q, slots + 1), (cu_seq_k, slots + 1), (seqused_k, slots)):
        assert integers.dtype == torch.int32 and integers.shape == (size,)
        assert integers.is_contiguous()
    assert block_table.dtype == torch.int32 and block_table.stride(1) == 1
    assert enable_gqa or query.shape[1] == key.shape[2]
    assert query.shape[1] % key.shape[2] == 0
    assert cu_seq_k.tolist() == [number * most * key.shape[1] for number in range(slots + 1)]
    attended = torch.empty_like(query)
    left, right = window_size
    for number, used in enumerate(seqused_k.tolist()):
        begin, end = cu_seq_q[number : number + 2].tolist()
        assert end - begin <= max_q and used <= max_k
        of_slot = block_table[number].long()
        shared = query.shape[1] // key.shape[2]
        keys, values = (
            pages[of_slot].flatten(0, 1)[:used].repeat_interleave(shared, dim=1)
            for pages in (key, value)
        )
        scores = torch.einsum("qhd,khd->hqk", query[begin:end], keys)
        scores *= query.shape[-1] ** -0.5 if scale is None else scale
        # The last of the queries is the last of the keys.
        distance = torch.arange(used - (end - begin), used)[:, None] - torch.arange(used)
        if left >= 0:
            scores = scores.masked_fill(distance > left, -torch.inf)
        if right >= 0:
            scores = scores.masked_fill(-distance > right, -torch.inf)
        attended[begin:end] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)
    return attended


@pytest.fixture(scope="module", autouse=True)
def kernel() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "varlen_attn", documented)
        yield


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), ON_CPU)


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


def with_steps(generator: Generator) -> Generator:
    """The same, taking steps as a GPU does."""
    pool = generator.memory.pool
    pool.use(PAGED)
    generator.decode_step = DecodeStep(generator.checkpoint, pool, (1, 2, 4))
    return generator


# Attention.


class Layer(torch.nn.Module):
    def __init__(self, shared: int) -> None:
        super().__init__()
        self.num_key_value_groups = shared
        self.is_causal = True


@given(
    numbers=st.integers(0, 2**32 - 1),
    ends=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    fed=st.integers(1, 40),
    page_tokens=st.integers(1, 9),
    heads=st.sampled_from([(2, 1), (2, 2), (1, 4)]),
    window=st.sampled_from([None, 1, 7, 64]),
    scaling=st.sampled_from([None, 1.0]),
)
@settings(deadline=None)
def test_pages_are_attended_to_as_the_library_attends(
    numbers: int,
    ends: list[int],
    fed: int,
    page_tokens: int,
    heads: tuple[int, int],
    window: int | None,
    scaling: float | None,
) -> None:
    """Several slots that are fed a token each, or one that is fed some; in pages in any order."""
    of_keys, shared = heads
    if len(ends) > 1:
        fed = 1
    fed = min(fed, *ends)
    torch.manual_seed(numbers)
    most = max(-(-end // page_tokens) for end in ends)
    order = torch.randperm(len(ends) * most, dtype=torch.int32).view(len(ends), most)
    shape = (len(ends) * most, of_keys, page_tokens, 8)
    reach = [(row.tolist(), end) for row, end in zip(order, ends, strict=True)]
    nowhere = torch.zeros((len(ends), fed), dtype=torch.int64)
    table = Table.of(order, torch.tensor(ends, dtype=torch.int32), fed, page_tokens)
    feed = Feed(nowhere, nowhere, nowhere, max(ends), reach, table)
    keys, values = (Kept(torch.randn(shape), feed) for _ in range(2))
    query = torch.randn(len(ends), of_keys * shared, fed, 8)
    seen = [seen_by(fed, end, window) for end in ends]
    layer = Layer(shared)
    by_slot, by_page = (
        attend(layer, query, keys, values, seen[0], sliding_window=window, scaling=scaling)[0]
        for attend in (attention._attend, attention._attend_to_pages)
    )
    torch.testing.assert_close(by_page, by_slot)
    # And, with all keys in one place, as the library does.
    each = zip(query, keys.of_each(), values.of_each(), seen, strict=True)
    by_library = [
        sdpa_attention_forward(layer, q[None], k, v, mask, scaling=scaling)[0]
        for q, k, v, mask in each
    ]
    torch.testing.assert_close(by_slot, torch.cat(by_library))


def seen_by(fed: int, end: int, window: int | None) -> torch.Tensor:
    """Which of `end` tokens the last `fed` of them see: bool (1, 1, fed, end)."""
    distance = torch.arange(end - fed, end)[:, None] - torch.arange(end)
    return ((distance >= 0) & (distance < (window or 64)))[None, None]


def test_the_kernel_is_called_as_torch_has_it() -> None:
    """What it is replaced by here takes the same."""
    theirs, ours = (signature(kernel).parameters for kernel in (varlen_attn, documented))
    assert list(ours)[:7] == list(theirs)[:7]
    assert {ours[name].kind for name in list(ours)[7:]} == {Parameter.KEYWORD_ONLY}
    assert all(theirs[name].kind == ours[name].kind for name in ours)
    assert all(parameter.default is not Parameter.empty for parameter in list(theirs.values())[7:])


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize(("slots", "fed"), [(3, 1), (1, 5)])
def test_the_kernel_takes_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch, slots: int, fed: int, window: int | None
) -> None:
    """As torch declares it, on a device that computes nothing."""
    monkeypatch.setattr(attention, "varlen_attn", varlen_attn)
    with torch.device("meta"):
        table = Table.of(torch.ones((slots, 2)).int(), torch.ones(slots).int(), fed, 256)
        nowhere = torch.zeros((slots, fed), dtype=torch.int64)
        kept = Kept(torch.ones(9, 2, 256, 64), Feed(nowhere, nowhere, nowhere, 1024, table=table))
        query = torch.ones(slots, 4, fed, 64)
    attended, _ = attention._attend_to_pages(
        Layer(2), query, kept, kept, None, sliding_window=window, scaling=0.125
    )
    assert attended.shape == (slots, fed, 4, 64)


# Steps.


@pytest.mark.parametrize("page_tokens", [5, 4096])
def test_steps_give_the_tokens_of_the_card(model: Model, page_tokens: int) -> None:
    """Of one, and of two at once that join and leave."""
    checkpoint, card = model
    generator = with_steps(generator_of(checkpoint, 3 * 4096 // page_tokens, page_tokens))
    declared = [prompt(user(FIRST)), prompt(user(SECOND, "What was said, and by whom?"))]
    replies = [start(generator, each, session_id=number) for number, each in enumerate(declared)]
    events: list[list[ReplyEvent]] = [replies[0].step(), []]
    while open_ := [reply for reply in replies if not reply.done]:
        for reply, news in zip(open_, go_on(generator, open_), strict=True):
            events[replies.index(reply)] += news
    for each, said_of_it in zip(declared, events, strict=True):
        check(card, each, said_of_it)


@pytest.mark.slow
def test_whatever_happens_steps_give_the_tokens_of_the_card(
    checkpoint: Checkpoint, card: ModelCard
) -> None:
    class OfSteps(Conversations):
        @staticmethod
        def prepare(generator: Generator) -> None:
            with_steps(generator)

        @staticmethod
        def check(generator: Generator, declared: Prompt, events: list[ReplyEvent]) -> None:
            check(card, declared, events)

    OfSteps.checkpoint = checkpoint
    run_state_machine_as_test(OfSteps, settings=LIMITS)


class Waits(TorchDispatchMode):
    """Notes what a GPU would have to wait for: results that decide what is computed next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.noted: set[str] = set()
        # Which on a CPU are no operations.
        for name in ("tolist", "cpu", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, self._noting(name))

    def _noting(self, name: str) -> Any:
        real = getattr(torch.Tensor, name)

        def noting(*args: Any, **options: Any) -> Any:
            self.noted.add(name)
            return real(*args, **options)

        return noting

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        sized = torch.Tag.dynamic_output_shape in operation.tags
        if operation is torch.ops.aten.index.Tensor:
            # What numbers choose has their shape.
            sized = any(index is not None and index.dtype == torch.bool for index in args[1])
        if sized or torch.Tag.data_dependent_output in operation.tags:
            self.noted.add(str(operation))
        return operation(*args, **(kwargs or {}))


def test_no_step_waits_for_a_result(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that did could not be recorded."""
    checkpoint, _ = model
    pool = generator_of(checkpoint, 64, 16).memory.pool
    pool.use(PAGED)
    step = DecodeStep(checkpoint, pool, (1, 4))
    step._fill([], [], [], 4)
    monkeypatch.setattr(attention, "varlen_attn", lambda query, *args, **options: query.clone())
    with Waits(monkeypatch) as waits:
        step._compute(4, 1024)
        assert not waits.noted
        numbers = torch.ones(3)
        assert numbers.tolist() and numbers.sum().item() and len(numbers[numbers > 0])
    assert waits.noted == {"tolist", "aten._local_scalar_dense.default", "aten.index.Tensor"}


@pytest.mark.parametrize(
    ("capacity", "rounded"),
    [(600, [600]), (1024, [1024]), (8192, [1024, 4096, 8192]), (16_384, [1024, 4096, 16_384])],
)
def test_lengths_are_rounded_up_to_a_few(capacity: int, rounded: list[int]) -> None:
    assert lengths(capacity) == rounded


# What works is found out at the start.


@pytest.mark.parametrize(("pages", "page_tokens"), [(100, 16), (5, 32), (1, 128)])
def test_the_kernel_is_taken_where_it_gives_the_same(
    checkpoint: Checkpoint,
    card: ModelCard,
    caplog: pytest.LogCaptureFixture,
    pages: int,
    page_tokens: int,
) -> None:
    generator = generator_of(checkpoint, pages, page_tokens)
    pool = generator.memory.pool
    generator.decode_step = fast_steps(checkpoint, pool, "paged", batches=(1, 2, 4))
    assert generator.decode_step and not caplog.records
    assert pool.pages.free == pool.pages.count == pages
    hello = prompt(user("Hello."))
    check(card, hello, events_of(start(generator, hello)))


def unavailable(*args: object, **options: object) -> torch.Tensor:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nStack:")


def of_others(*args: Any, **options: Any) -> torch.Tensor:
    options["block_table"] = options["block_table"].roll(1, 0)
    return documented(*args, **options)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (unavailable, "FlashAttention only supports Ampere GPUs or newer."),
        (of_others, r"here, it computes something else \(by (\d+|nan)%\)."),
    ],
)
def test_the_plain_way_is_kept_where_the_kernel_fails(
    checkpoint: Checkpoint,
    card: ModelCard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kernel: Any,
    reason: str,
) -> None:
    generator = generator_of(checkpoint, 100, 16)
    pool = generator.memory.pool
    monkeypatch.setattr(attention, "varlen_attn", kernel)
    assert fast_steps(checkpoint, pool, "recorded") is None
    (record,) = caplog.records
    assert re.fullmatch(f"Attention goes the plain way, which is slower: {reason}", record.message)
    assert pool.pages.free == 100
    hello = prompt(user("Hello."))
    check(card, hello, events_of(start(generator, hello)))


def test_steps_are_computed_where_they_can_not_be_recorded(
    checkpoint: Checkpoint, card: ModelCard, caplog: pytest.LogCaptureFixture
) -> None:
    """As here, where there is no GPU."""
    generator = generator_of(checkpoint, 100, 16)
    generator.decode_step = fast_steps(checkpoint, generator.memory.pool, "recorded", (1, 2, 4))
    assert generator.decode_step
    (record,) = caplog.records
    assert record.message.startswith("Decode steps aren't recorded, and slower: ")
    hello = prompt(user("Hello."))
    check(card, hello, events_of(start(generator, hello)))


def test_nothing_is_tried_where_the_plain_way_is_asked_for(checkpoint: Checkpoint) -> None:
    assert fast_steps(checkpoint, generator_of(checkpoint).memory.pool, "plain") is None
