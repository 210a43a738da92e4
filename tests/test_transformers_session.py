"""The kept state of a conversation: whatever happens to it, replies are those of the model card.

The reference sees the whole conversation from scratch each time; ours keeps what it has computed,
cuts it, lends it, loses it, and computes only what is new.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from assistant.engines.engine import Finished, ReplyEvent, ReplyOptions, Started, Text, TokenCount
from assistant.engines.transformers.attention import Kept
from assistant.engines.transformers.budget import make_memory
from assistant.engines.transformers.generation import Generation, Generator
from assistant.engines.transformers.memory import Conversation, Memory
from assistant.engines.transformers.memory_plan import Plan
from assistant.engines.transformers.messages import Generate, audio_of
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Pool
from assistant.errors import EngineError
from assistant.prompt import Message, Prompt, TextPart
from audio_io.pcm import Int16Array
from tests import speech
from tests.dialogue import assistant, prompt, system, user
from tests.model_card import ModelCard
from tests.tiny_models import build_qwen2_audio

ON_CPU = TransformersSettings(device="cpu", temperature=0, prefill_chunk_tokens=64)
TOKENS = 12
# Two ways of computing in float32; logits reach 15.
TOLERANCE = 2e-4
CONVERSATIONS = 2


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), ON_CPU)


def generator_of(
    checkpoint: Checkpoint, pages: int = CONVERSATIONS, page_tokens: int = 4096
) -> Generator:
    """One with so little memory: a page takes a whole conversation, where nothing else is said."""
    generator = Generator(checkpoint, ON_CPU)
    capacity = min(4096, pages * page_tokens)
    generator.memory = Memory(Pool(checkpoint, Plan(pages, page_tokens, capacity)))
    return generator


@pytest.fixture
def generator(checkpoint: Checkpoint) -> Generator:
    return generator_of(checkpoint)


def start(
    generator: Generator,
    declared: Prompt,
    *,
    session_id: int = 1,
    side: bool = False,
    tokens: int = TOKENS,
) -> Generation:
    conversation = generator.memory.of(session_id)
    audio = audio_of(declared)
    conversation.samples |= {digest: part.samples for digest, part in audio.items()}
    if not side:
        conversation.drop_audio(set(audio))
    options = ReplyOptions(max_output_tokens=tokens)
    request = Generate(1, session_id, declared, options, side=side, asked_s=time.monotonic())
    return generator.start(request, conversation)


def events_of(generation: Generation) -> list[ReplyEvent]:
    """All that is left of a reply."""
    events: list[ReplyEvent] = []
    try:
        while not generation.done:
            events += generation.step()
    finally:
        generation.close()
    return events


def go_on(generator: Generator, generations: list[Generation]) -> list[list[ReplyEvent]]:
    """A step of each that has room: those whose prompts are in take it together."""
    decoding = [generation for generation in generations if generation.going]
    tokens = iter(generator.tokens_after(decoding) if decoding else [])

    def step(generation: Generation) -> list[ReplyEvent]:
        if generation.blocked:
            return []
        return generation.take(next(tokens)) if generation.going else generation.step()

    return [step(generation) for generation in generations]


def said(events: list[ReplyEvent]) -> Message:
    """The reply as it goes into the next prompt."""
    pieces = [event for event in events if isinstance(event, Text)]
    ids = tuple(id_ for piece in pieces for id_ in piece.ids)
    return assistant("".join(piece.text for piece in pieces), ids)


def started(events: list[ReplyEvent]) -> Started:
    (event,) = [event for event in events if isinstance(event, Started)]
    return event


SOUND = speech.prompt("demo-congrats")
SNIPPETS = st.tuples(st.integers(0, 200), st.integers(1, 5)).map(
    lambda span: SOUND[span[0] * 800 : (span[0] + span[1]) * 1600 + span[0] * 800]
)
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)
TURNS = st.lists(st.one_of(WORDS, SNIPPETS), min_size=1, max_size=2).map(lambda p: user(*p))


def check(
    card: ModelCard, declared: Prompt, events: list[ReplyEvent], reference: Any = None
) -> None:
    """The reply's tokens are the card's; what comes after a tie in its logits is anybody's.

    `reference` is what the card's `generate` has returned, where it was asked before.
    """
    reference = reference or card.generate(declared, TOKENS)
    expected = reference.sequences[0, len(card.prompt_ids(declared)) :].tolist()
    (part,) = said(events).parts
    assert isinstance(part, TextPart)
    for id_, card_id, logits in zip(part.token_ids, expected, reference.logits, strict=False):
        if id_ != card_id:
            assert logits[0, card_id] - logits[0, id_] < TOLERANCE
            return
    assert len(part.token_ids) == sum(id_ not in card.end_ids for id_ in expected)


def watch_writes(pool: Pool) -> None:
    """Fail where something is written to a page that several hold, or nobody."""
    layer = pool._layers[0]
    real = layer._extended

    def watched(numbers: torch.Tensor | None, new: torch.Tensor) -> Kept:
        written = set(pool.fed.pages.flatten().tolist()) - {pool.spare_page}
        assert all(pool.pages._holders[page] == 1 for page in written)
        return real(numbers, new)

    layer._extended = watched  # type: ignore[method-assign]


SESSIONS = st.integers(1, 4)


# A conversation to a page, or many pages to a conversation; memory for three, or for less.
POOLS = [(3, 4096), (1200, 2), (480, 5), (150, 16)]


class Conversations(RuleBasedStateMachine):
    """Four conversations and too little memory, in which everything happens that can."""

    checkpoint: Checkpoint
    check: Callable[[Generator, Prompt, list[ReplyEvent]], None]

    @staticmethod
    def prepare(generator: Generator) -> None:
        """Change how it computes, before anything is."""

    @initialize(pool=st.sampled_from(POOLS))
    def begin(self, pool: tuple[int, int]) -> None:
        self.generator = generator_of(self.checkpoint, *pool)
        self.prepare(self.generator)
        watch_writes(self.generator.memory.pool)
        self.histories: dict[int, list[Message]] = {1: [], 2: [], 3: [], 4: []}

    def declared(self, session_id: int, *more: Message) -> Prompt:
        """With `more` at its end; where that is too long, its oldest messages are dropped."""
        history = self.histories[session_id]
        while True:
            declared = prompt(*history, *more)
            audio = {digest: part.samples for digest, part in audio_of(declared).items()}
            tokens = self.generator.renderer.render(declared, audio).count.total
            if tokens + TOKENS <= self.generator.memory.tokens_per_slot:
                return declared
            del history[0]

    @invariant()
    def every_page_is_held_or_free(self) -> None:
        """No reply is under way between two rules."""
        memory = self.generator.memory
        held: Counter[int] = Counter()
        for session_id in self.histories:
            if slot := memory.of(session_id).slot:
                assert len(slot.pages) == memory.pool.pages_for(slot.length)
                held.update(slot.pages)
        pages = memory.pool.pages
        assert len(held) == pages.count - pages.free
        assert all(pages.is_shared(page) == (holders > 1) for page, holders in held.items())

    @rule(session_id=SESSIONS, turn=TURNS)
    def a_turn_is_answered(self, session_id: int, turn: Message) -> None:
        declared = self.declared(session_id, turn)
        events = events_of(start(self.generator, declared, session_id=session_id))
        type(self).check(self.generator, declared, events)
        self.histories[session_id] += [turn, said(events)]

    @rule(turns=st.dictionaries(SESSIONS, TURNS, min_size=2, max_size=3), chance=st.randoms())
    def several_turns_are_answered_at_once(self, turns: dict[int, Message], chance: Random) -> None:
        """They join and go on in any order, and some are interrupted."""
        prompts = {id_: self.declared(id_, turn) for id_, turn in turns.items()}
        replies = {
            id_: start(self.generator, declared, session_id=id_)
            for id_, declared in prompts.items()
        }
        events: dict[int, list[ReplyEvent]] = {id_: [] for id_ in replies}
        under_way = list(replies)
        while under_way:
            going = chance.sample(under_way, chance.randint(1, len(under_way)))
            steps = go_on(self.generator, [replies[id_] for id_ in going])
            for id_, news in zip(going, steps, strict=True):
                events[id_] += news
                if replies[id_].done or (replies[id_].begun and chance.random() < 0.02):
                    replies[id_].close()
                    under_way.remove(id_)
        for id_, turn in turns.items():
            if replies[id_].done:
                type(self).check(self.generator, prompts[id_], events[id_])
            self.histories[id_] += [turn, said(events[id_])]

    @rule(session_id=SESSIONS, turn=TURNS, steps=st.integers(0, 9))
    def a_turn_goes_on_after_a_pause(self, session_id: int, turn: Message, steps: int) -> None:
        """What was begun in the pause is given up, and leaves nothing behind."""
        self.begun(session_id, turn, steps)

    @rule(session_id=SESSIONS, turn=TURNS, steps=st.integers(0, 9))
    def a_reply_is_interrupted(self, session_id: int, turn: Message, steps: int) -> None:
        """The history holds what was delivered of it, by its ids."""
        events = self.begun(session_id, turn, steps)
        self.histories[session_id] += [turn, said(events)]

    def begun(self, session_id: int, turn: Message, steps: int) -> list[ReplyEvent]:
        declared = self.declared(session_id, turn)
        generation = start(self.generator, declared, session_id=session_id)
        events: list[ReplyEvent] = []
        for _ in range(steps):
            if not generation.done:
                events += generation.step()
        generation.close()
        return events

    @rule(session_id=SESSIONS, turn=TURNS)
    def something_is_asked_beside(self, session_id: int, turn: Message) -> None:
        declared = self.declared(session_id, turn)
        events = events_of(start(self.generator, declared, session_id=session_id, side=True))
        type(self).check(self.generator, declared, events)

    @rule(session_id=SESSIONS, turn=TURNS)
    def a_part_of_a_turn_is_taken_in(self, session_id: int, turn: Message) -> None:
        generation = start(
            self.generator, self.declared(session_id, turn), session_id=session_id, tokens=0
        )
        begun, finished = events_of(generation)
        assert isinstance(begun, Started) and isinstance(finished, Finished)

    @precondition(lambda self: any(self.histories.values()))
    @rule(data=st.data())
    def an_item_is_deleted(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from([i for i, h in self.histories.items() if h]))
        history = self.histories[session_id]
        del history[data.draw(st.integers(0, len(history) - 1))]

    @precondition(lambda self: any(self.histories.values()))
    @rule(data=st.data(), kept=st.integers(0, 6))
    def a_reply_is_truncated(self, data: st.DataObject, kept: int) -> None:
        session_id = data.draw(st.sampled_from([i for i, h in self.histories.items() if h]))
        history = self.histories[session_id]
        for index, message in enumerate(history):
            part = message.parts[0]
            if message.role == "assistant" and isinstance(part, TextPart):
                # Each token of this checkpoint is a character.
                cut = TextPart(part.text[:kept], part.token_ids[:kept])
                history[index] = replace(message, parts=(cut,))

    @rule(session_id=SESSIONS, text=WORDS)
    def instructions_change(self, session_id: int, text: str) -> None:
        history = self.histories[session_id]
        if history and history[0].role == "system":
            del history[0]
        history.insert(0, system(text))

    @rule(session_id=SESSIONS)
    def a_conversation_ends(self, session_id: int) -> None:
        self.generator.memory.forget(session_id)
        self.histories[session_id] = []


LIMITS = settings(max_examples=8, stateful_step_count=12, deadline=None)


@pytest.mark.slow
def test_whatever_happens_replies_are_those_of_the_card(
    checkpoint: Checkpoint, card: ModelCard
) -> None:
    class OfThese(Conversations):
        @staticmethod
        def check(generator: Generator, declared: Prompt, events: list[ReplyEvent]) -> None:
            check(card, declared, events)

    OfThese.checkpoint = checkpoint
    run_state_machine_as_test(OfThese, settings=LIMITS)


MERGES = [("t", "h"), ("th", "e"), ("a", "a"), ("1", "1"), ("P", "T"), ("z", "Q")]


@pytest.mark.slow
def test_whatever_happens_nothing_is_left_of_what_was(tmp_path: Path) -> None:
    """With a tokenizer that merges, by whom a reply's text may be cut up otherwise than it came.

    The card, which knows only the text, is no reference then; a conversation that has computed
    nothing yet, and is told the same ids, is.
    """

    class Merging(Conversations):
        @staticmethod
        def check(generator: Generator, declared: Prompt, events: list[ReplyEvent]) -> None:
            fresh = generator_of(generator.checkpoint, pages=1)
            assert said(events) == said(events_of(start(fresh, declared)))

    Merging.checkpoint = load(str(build_qwen2_audio(tmp_path, merges=MERGES)), ON_CPU)
    run_state_machine_as_test(Merging, settings=LIMITS)


def test_a_turn_computes_only_what_is_new(generator: Generator, card: ModelCard) -> None:
    first = prompt(system("Be brief."), user(speech.prompt("hello-world")))
    events = events_of(start(generator, first))
    assert started(events).report.reused == TokenCount()
    reply = said(events)
    second = prompt(*first.messages, reply, user("And now?"))
    again = events_of(start(generator, second))
    report = started(again).report
    # The last token of the reply was never fed.
    assert report.reused.total == started(events).report.prompt.total + TOKENS - 1
    assert report.reused.audio == report.prompt.audio > 0
    assert report.dropped_tokens == 0
    finished = again[-1]
    assert isinstance(finished, Finished) and finished.usage.cached == report.reused
    check(card, second, again)


def test_another_sound_of_the_same_length_is_heard(generator: Generator, card: ModelCard) -> None:
    for start_sample in (0, 1600, 0):
        declared = prompt(user(SOUND[start_sample : start_sample + 8000], "What is it?"))
        events = events_of(start(generator, declared))
        assert started(events).report.reused.audio == 0
        check(card, declared, events)


def test_an_interrupted_reply_is_cut_to_what_was_delivered(generator: Generator) -> None:
    first = prompt(user("Go on."))
    reply = said(events_of(start(generator, first)))
    (part,) = reply.parts
    assert isinstance(part, TextPart)
    heard = assistant(part.text[:5], part.token_ids[:5])
    report = started(events_of(start(generator, prompt(*first.messages, heard, user("Stop.")))))
    assert report.report.dropped_tokens == TOKENS - 1 - 5


def test_audio_is_encoded_once(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = Checkpoint.encode_audios

    def counting(self: Checkpoint, sounds: Sequence[Int16Array]) -> list[torch.Tensor]:
        encoded.extend(map(len, sounds))
        return real(self, sounds)

    monkeypatch.setattr(Checkpoint, "encode_audios", counting)
    sounds = [speech.phrase("Front_Left"), speech.phrase("Side_Right")]
    history: list[Message] = []
    for sound in sounds:
        history.append(user(sound))
        history.append(said(events_of(start(generator, prompt(*history)))))
    # Also when all that was computed of the conversation is lost.
    for other in (2, 3):
        events_of(start(generator, prompt(user("Hello.")), session_id=other))
    report = started(events_of(start(generator, prompt(*history, user("Well?")))))
    assert report.report.reused == TokenCount()
    assert encoded == [len(sound) for sound in sounds]


def test_short_audio_takes_little_memory(checkpoint: Checkpoint) -> None:
    encoded = checkpoint.encode_audio(SOUND[:16_000])
    assert encoded.untyped_storage().nbytes() == encoded.nbytes


def test_who_was_idle_for_longest_is_forgotten(generator: Generator, card: ModelCard) -> None:
    hello = prompt(user("Hello."))
    for session_id in (1, 2, 1, 3):
        events_of(start(generator, hello, session_id=session_id))
    reused = {}
    for session_id in (1, 3, 2):
        events = events_of(start(generator, hello, session_id=session_id))
        check(card, hello, events)
        reused[session_id] = started(events).report.reused.total > 0
    assert reused == {1: True, 3: True, 2: False}


def test_who_is_being_answered_is_not_forgotten(generator: Generator, card: ModelCard) -> None:
    hello = prompt(user("Hello."))
    busy = [start(generator, hello, session_id=session_id) for session_id in (1, 2)]
    begun = [generation.step() for generation in busy]
    third = start(generator, hello, session_id=3)
    with pytest.raises(EngineError, match=r"holds 8192 tokens of .*in use just now"):
        third.step()
    third.close()
    for generation, events in zip(busy, begun, strict=True):
        check(card, hello, events + events_of(generation))
    check(card, hello, events_of(start(generator, hello, session_id=3)))


def test_asking_beside_leaves_the_conversation_whole(generator: Generator, card: ModelCard) -> None:
    first = prompt(user(speech.prompt("hello-world")))
    events = events_of(start(generator, first))
    beside = prompt(*first.messages, said(events), user("Summarise."))
    side = events_of(start(generator, beside, side=True))
    # It begins with what the conversation holds, and the conversation still holds it.
    assert started(side).report.reused.total > started(events).report.prompt.total
    check(card, beside, side)
    next_turn = prompt(*first.messages, said(events), user("Go on."))
    report = started(events_of(start(generator, next_turn))).report
    assert (report.reused.total, report.dropped_tokens) == (
        started(events).report.prompt.total + TOKENS - 1,
        0,
    )


def test_a_long_prompt_is_taken_in_by_bounded_steps(generator: Generator, card: ModelCard) -> None:
    long = prompt(user("a" * 300))
    count = generator.renderer.render(long, {}).count.total
    generation = start(generator, long)
    steps = [generation.step()]
    while not steps[-1]:
        steps.append(generation.step())
    assert len(steps) == -(-count // ON_CPU.prefill_chunk_tokens)
    check(card, long, steps[-1] + events_of(generation))


@pytest.mark.parametrize("tokens", [0, 3])
def test_what_broke_down_is_built_anew(
    generator: Generator, card: ModelCard, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    hello = prompt(user(speech.prompt("hello-world")))
    bystander = start(generator, hello, session_id=2)
    begun = bystander.step()
    generation = start(generator, hello)
    for _ in range(tokens):
        generation.step()
    nothing = torch.full((1, generator.checkpoint.vocabulary), float("nan"))
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "logits", lambda self, hidden: nothing)
        with pytest.raises(EngineError, match="no numbers"):
            events_of(generation)
    check(card, hello, begun + events_of(bystander))
    again = events_of(start(generator, hello))
    assert started(again).report.reused == TokenCount()
    check(card, hello, again)


@pytest.mark.slow
def test_a_thousand_replies_that_were_given_up_leave_nothing(checkpoint: Checkpoint) -> None:
    generator = generator_of(checkpoint)
    hello = prompt(user("Hello."))
    for number in range(1000):
        generation = start(generator, hello, session_id=number % 3, side=number % 5 == 0)
        for _ in range(number % 3):
            generation.step()
        generation.close()
        if number % 7 == 0:
            generator.memory.forget(number % 3)
    del generation
    for session_id in range(3):
        generator.memory.forget(session_id)
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    assert kinds.count(Generation) == kinds.count(Conversation) == 0
    # Each slot can be had again.
    kept = [start(generator, hello, session_id=session_id) for session_id in range(CONVERSATIONS)]
    for generation in kept:
        generation.step()


# Memory.


def test_memory_is_for_as_many_conversations_as_fit(checkpoint: Checkpoint) -> None:
    whole = checkpoint.context_tokens * checkpoint.cache_shape.bytes_per_token
    assert checkpoint.cache_shape.bytes_per_token == 2 * 2 * 2 * 16 * 4
    for gb, pages, tokens in (
        (3.5 * whole / 1e9, 3, checkpoint.context_tokens),
        (0.5 * whole / 1e9, 1, checkpoint.context_tokens // 2),
        (1000 * whole / 1e9, 64, checkpoint.context_tokens),
    ):
        memory = make_memory(checkpoint, ON_CPU.model_copy(update={"cache_gb": gb}))
        pool = memory.pool
        assert (pool.pages.count, pool.page_tokens, pool.capacity) == (pages, tokens, tokens)


def test_too_little_memory_for_a_conversation(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"cache_gb is 0\.0001, in which 195 tokens.*0\.00052"):
        make_memory(checkpoint, ON_CPU.model_copy(update={"cache_gb": 1e-4}))
    monkeypatch.setattr("assistant.engines.transformers.budget.free_bytes", lambda device: 100_000)
    with pytest.raises(EngineError, match=r"cpu has 0\.0 GB of memory to spare.*larger machine"):
        make_memory(checkpoint, ON_CPU)


def test_memory_that_is_not_there(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*size: object, **kind: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.\nSee the documentation.")

    monkeypatch.setattr(torch, "empty", refused)
    with pytest.raises(EngineError, match=r"memory: CUDA out of memory\. Name less as"):
        make_memory(checkpoint, ON_CPU.model_copy(update={"cache_gb": 0.01}))


def test_a_seed_repeats_a_reply(checkpoint: Checkpoint) -> None:
    hello = prompt(user("Hello."))
    replies = set()
    for seed in (1, 1, 2, 3):
        sampled = ON_CPU.model_copy(update={"temperature": 2.0, "top_k": 0, "seed": seed})
        generator = Generator(checkpoint, sampled)
        replies.add(said(events_of(start(generator, hello))))
        replies.add(said(events_of(start(generator, hello))))
    assert len(replies) == 3
