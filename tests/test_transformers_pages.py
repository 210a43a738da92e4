"""Pages of memory: taken as conversations grow, given back as they are cut, shared and lent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assistant.engines.engine import Started, TokenCount
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.places import Places
from assistant.engines.transformers.slots import Slot
from assistant.errors import EngineError
from tests.dialogue import prompt, system, user
from tests.model_card import ModelCard
from tests.test_transformers_session import (
    ON_CPU,
    TOKENS,
    check,
    events_of,
    generator_of,
    said,
    start,
    started,
)

PAGE_TOKENS = 16
HELLO = prompt(user("Hello."))


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), ON_CPU)


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


def pages_in_use(generator: Generator) -> int:
    pages = generator.memory.pool.pages
    return pages.count - pages.free


def slot_of(generator: Generator, session_id: int) -> Slot:
    slot = generator.memory.of(session_id).slot
    assert slot is not None
    return slot


def test_a_conversation_has_as_many_pages_as_its_tokens_take(checkpoint: Checkpoint) -> None:
    generator = generator_of(checkpoint, 64, PAGE_TOKENS)
    events = events_of(start(generator, HELLO))
    held = started(events).report.prompt.total + TOKENS - 1
    slot = slot_of(generator, 1)
    assert slot.length == held
    assert pages_in_use(generator) == len(slot.pages) == -(-held // PAGE_TOKENS)
    slot.cut(2 * PAGE_TOKENS)
    assert pages_in_use(generator) == 2
    slot.cut(2 * PAGE_TOKENS - 1)
    assert pages_in_use(generator) == 2
    generator.memory.forget(1)
    assert pages_in_use(generator) == 0


def test_who_was_idle_for_longest_loses_its_end_and_no_more(
    checkpoint: Checkpoint, card: ModelCard
) -> None:
    generator = generator_of(checkpoint, 16, PAGE_TOKENS)
    # They have nothing in common.
    first, second = (prompt(system(letter * 20), user("Hello.")) for letter in "pq")
    events_of(start(generator, first, session_id=1))
    events_of(start(generator, second, session_id=2))
    before = [slot_of(generator, session_id).length for session_id in (1, 2)]
    free = generator.memory.pool.pages.free
    # One page more than is free.
    more = "a" * ((free + 1) * PAGE_TOKENS - before[0])
    longer = prompt(system("r" * 20), user("Hello." + more))
    events_of(start(generator, longer, session_id=3))
    full = before[0] // PAGE_TOKENS
    assert [slot_of(generator, id_).length for id_ in (1, 2)] == [full * PAGE_TOKENS, before[1]]
    # It goes on with what it still has.
    events = events_of(start(generator, first))
    reused = started(events).report.reused.total
    assert reused == min(full * PAGE_TOKENS, started(events).report.prompt.total - 1)
    check(card, first, events)


def test_a_reply_that_has_begun_never_runs_out(checkpoint: Checkpoint, card: ModelCard) -> None:
    """Others wait, or are told so."""
    generator = generator_of(checkpoint, 12, PAGE_TOKENS)
    replies = [start(generator, HELLO, session_id=session_id) for session_id in (1, 2, 3)]
    most = replies[0].most_tokens
    assert 2 * -(-most // PAGE_TOKENS) <= 12 < 3 * -(-most // PAGE_TOKENS)
    begun = [reply.step() for reply in replies[:2]]
    assert [reply.blocked for reply in replies] == [False, False, True]
    with pytest.raises(EngineError, match="holds 192 tokens of conversations, and all of it"):
        replies[2].step()
    for reply, events in zip(replies, begun, strict=False):
        check(card, HELLO, events + events_of(reply))
    again = start(generator, HELLO, session_id=3)
    assert not again.blocked
    check(card, HELLO, events_of(again))


def test_what_is_asked_beside_shares_the_pages_of_the_conversation(
    checkpoint: Checkpoint, card: ModelCard
) -> None:
    generator = generator_of(checkpoint, 32, PAGE_TOKENS)
    first = prompt(user("a" * 65))
    events = events_of(start(generator, first))
    alone = slot_of(generator, 1).pages.copy()
    declared = prompt(*first.messages, said(events), user("Why?"))
    beside, main = start(generator, declared, side=True), start(generator, declared)
    taken = beside.step()
    # It has those of its own that go beyond, and one for its part of the last.
    more = -(-started(taken).report.prompt.total // PAGE_TOKENS) - len(alone)
    assert pages_in_use(generator) == len(alone) + more + 1
    # Now the conversation itself goes on: it was the first, and has its last page for itself.
    check(card, declared, events_of(main))
    assert slot_of(generator, 1).pages[: len(alone)] == alone
    check(card, declared, taken + events_of(beside))
    assert pages_in_use(generator) == len(slot_of(generator, 1).pages)


@pytest.mark.parametrize("side", [False, True], ids=["main", "beside"])
def test_a_new_conversation_shares_the_full_pages_of_another_that_begins_the_same(
    checkpoint: Checkpoint, card: ModelCard, side: bool
) -> None:
    generator = generator_of(checkpoint, 64, PAGE_TOKENS)
    common = system("You are the voice of a hotel. Say in one sentence what can be done.")
    for session_id, text in ((1, "Who?"), (2, "What is it?"), (3, "When is breakfast?")):
        declared = prompt(common, user(text))
        events = events_of(start(generator, declared, session_id=session_id, side=side))
        report = started(events).report
        check(card, declared, events)
        if session_id == 1:
            assert not report.reused.total
            events_of(start(generator, declared))
            pages = slot_of(generator, 1).pages.copy()
            continue
        assert report.reused.total % PAGE_TOKENS == 0
        assert report.reused.total > 0.5 * report.prompt.total
        shared = report.reused.total // PAGE_TOKENS
        if not side:
            assert slot_of(generator, session_id).pages[:shared] == pages[:shared]
    generator.memory.forget(1)
    again = prompt(common, user("And dinner?"))
    check(card, again, events_of(start(generator, again, session_id=2)))


def test_a_page_is_had_alone_where_who_shared_it_has_to_go(
    checkpoint: Checkpoint, card: ModelCard
) -> None:
    """There is no page left to copy to, and none is needed."""
    generator = generator_of(checkpoint, 1, 128)
    events_of(start(generator, HELLO, tokens=0))
    held = slot_of(generator, 1).length
    events = events_of(start(generator, HELLO, side=True))
    assert started(events).report.reused == TokenCount(held - 1)
    check(card, HELLO, events)
    assert slot_of(generator, 1).length == 0


def test_a_reply_that_fails_gives_all_back(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generator_of(checkpoint, 32, PAGE_TOKENS)
    generation = start(generator, HELLO)
    assert isinstance(generation.step()[0], Started)

    def failing(self: Checkpoint, *args: object) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(Checkpoint, "hidden_states", failing)
    with pytest.raises(RuntimeError, match="CUDA"):
        events_of(generation)
    assert pages_in_use(generator) == 0


@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.lists(st.integers(0, 99), min_size=5, max_size=5), st.integers(0, 4))),
)
def test_places_are_by_page_and_offset(
    page_tokens: int, slots: list[tuple[list[int], int]]
) -> None:
    cpu = torch.device("cpu")
    for pages, length in slots:
        count = 5 * page_tokens - length
        several = Places(1, count, cpu)
        several.put(0, pages, length, page_tokens)
        at = range(length, length + count)
        expected = [pages[p // page_tokens] for p in at], [p % page_tokens for p in at], [*at]
        assert [part.tolist() for part in several.tensors()[:3]] == [[part] for part in expected]
    step = Places(len(slots), 1, cpu)
    for id_ in (7, 1000):
        # Filled anew for each step.
        for row, (pages, length) in enumerate(slots):
            step.put_one(row, pages, length, page_tokens, id_ + row)
        of_slots = [
            (pages[length // page_tokens], length % page_tokens, length, id_ + row)
            for row, (pages, length) in enumerate(slots)
        ]
        assert torch.cat(step.tensors(), dim=1).tolist() == [[*of_one] for of_one in of_slots]
