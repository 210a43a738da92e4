"""Calls that the client demands: the reply's first tokens are given, the others the model's own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor

from assistant.engines.engine import (
    Finished,
    ModelSession,
    Reply,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    ToolCall,
)
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.call_formats import FORMATS
from assistant.engines.transformers.opening import Opening
from assistant.prompt import (
    FunctionCall,
    FunctionOutput,
    Message,
    OneTool,
    Prompt,
    Tool,
    ToolChoice,
)
from tests import speech
from tests.chat_templates import WITH_FUNCTIONS
from tests.dialogue import prompt, user
from tests.model_card import ModelCard, conversation
from tests.tiny_architectures import build_voxtral
from tests.tiny_models import answers_for_ever

QWEN, OLD_MISTRAL = FORMATS["<tool_call>"], FORMATS["[TOOL_CALLS]"]
TOOLS = (Tool("get_weather", "What the sky does", {}), Tool("get_time", "", {}))
TOKENS = 70
"""Of which an opening takes about 50, since they are bytes."""
AHEAD_TOKENS = 20


@pytest.fixture(scope="module")
def folder(tiny_qwen2_audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was taught to call, and never ends a reply by itself."""
    folder = tmp_path_factory.mktemp("taught") / "model"
    shutil.copytree(tiny_qwen2_audio, folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.chat_template = WITH_FUNCTIONS
    processor.save_pretrained(folder)
    return answers_for_ever(folder)


class Card(ModelCard):
    """The reference, which is told of the functions, and given the beginning of its reply."""

    def text(self, prompt: Prompt) -> str:
        tools = [
            {
                "type": "function",
                "function": {
                    "name": t.name,
                    "description": t.description,
                    "parameters": t.parameters,
                },
            }
            for t in prompt.tools
        ]
        return (
            self.processor.apply_chat_template(
                conversation(prompt), tools=tools, add_generation_prompt=True, tokenize=False
            )
            + self.begun
        )

    begun = ""

    def going_on(self, prompt: Prompt, begun: str, max_new_tokens: int) -> tuple[int, ...]:
        """The tokens after `begun`."""
        self.begun = begun
        return self.reply_ids(prompt, max_new_tokens)


@pytest.fixture(scope="module")
def card(folder: Path) -> Card:
    return Card(folder)


@pytest.fixture(scope="module")
def engine_settings() -> TransformersSettings:
    return TransformersSettings(
        device="cpu", worker="thread", temperature=0, decode_ahead_tokens=AHEAD_TOKENS
    )


@pytest.fixture
async def engine(
    folder: Path, engine_settings: TransformersSettings
) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(str(folder), engine_settings)
    await engine.start()
    yield engine
    await engine.close()


def asked(choice: ToolChoice, *more: Message) -> Prompt:
    question = user(speech.prompt("hello-world"), "?")
    return replace(prompt(question, *more), tools=TOOLS, tool_choice=choice)


async def answer(session: ModelSession, declared: Prompt, tokens: int = TOKENS) -> list[ReplyEvent]:
    return await rest(session.reply(declared, ReplyOptions(tokens)))


async def rest(reply: Reply) -> list[ReplyEvent]:
    return [event async for event in reply]


def call_of(events: list[ReplyEvent]) -> ToolCall:
    """The only thing that a reply has said."""
    started, call, finished = events
    assert isinstance(started, Started)
    assert isinstance(call, ToolCall)
    assert isinstance(finished, Finished)
    return call


@pytest.mark.parametrize("name", ["get_weather", "get_time"])
async def test_a_function_that_is_named_is_called(
    engine: TransformersEngine, card: Card, name: str
) -> None:
    declared = asked(OneTool(name))
    call = call_of(await answer(await engine.open_session(), declared))
    assert call.name == name
    opening = QWEN.opening(name)
    ids = tuple(card.processor.tokenizer.encode(opening, add_special_tokens=False))
    # From there on, it is what the library makes of the same beginning.
    own = card.going_on(declared, opening, TOKENS - len(ids))
    assert call.ids == ids + own
    assert call.arguments == card.processor.tokenizer.decode(own).strip()


async def test_where_several_may_be_called_the_model_chooses(
    engine: TransformersEngine, card: Card
) -> None:
    session = await engine.open_session()
    chosen = call_of(await answer(session, asked("required")))
    card.begun = '<tool_call>\n{"name": "get_'
    logits = card.logits(asked("required"))
    by_letter = {
        tool.name: card.processor.tokenizer.convert_tokens_to_ids(tool.name[4]) for tool in TOOLS
    }
    assert chosen.name == max(by_letter, key=lambda name: float(logits[by_letter[name]]))
    assert call_of(await answer(session, asked(OneTool(chosen.name)))).ids == chosen.ids


async def test_nothing_is_demanded_else(engine: TransformersEngine) -> None:
    session = await engine.open_session()
    for declared in (asked("auto"), asked("none"), replace(asked("required"), tools=())):
        events = await answer(session, declared, 10)
        assert not any(isinstance(event, ToolCall) for event in events)
        assert len([event for event in events if isinstance(event, Text)]) == 10


async def test_a_reply_that_ends_within_its_opening_says_nothing(
    engine: TransformersEngine,
) -> None:
    _, finished = await answer(await engine.open_session(), asked("required"), 15)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.output_tokens) == ("length", 15)


async def test_the_conversation_goes_on_from_what_was_called(engine: TransformersEngine) -> None:
    session = await engine.open_session()
    first = await answer(session, asked("required"))
    call = call_of(first)
    finished = first[-1]
    assert isinstance(finished, Finished)
    said = Message(
        "", "assistant", (FunctionCall(call.call_id, call.name, call.arguments, call.ids),)
    )
    told = Message("", "tool", (FunctionOutput(call.call_id, "sunny"),))
    started, *_ = await answer(session, asked("auto", said, told), 5)
    assert isinstance(started, Started)
    # All but the last token, which nothing has followed so far.
    assert started.report.reused.total == finished.usage.input.total + len(call.ids) - 1
    assert started.report.dropped_tokens == 0


async def test_ahead_of_the_turns_end_it_is_the_same(engine: TransformersEngine) -> None:
    session = await engine.open_session()
    whole = call_of(await answer(session, asked("required")))
    for committed in (False, True):
        reply = session.reply(asked("required"), ReplyOptions(TOKENS, speculative=True))
        assert isinstance(await anext(aiter(reply)), Started)
        # It waits within the opening: by the time that another is answered, it has come that far.
        await answer(await engine.open_session(), asked("auto"), AHEAD_TOKENS)
        if committed:
            reply.commit()
            call, _ = await rest(reply)
            assert isinstance(call, ToolCall)
            assert replace(call, call_id="") == replace(whole, call_id="")
        else:
            await reply.cancel()
            assert await rest(reply) == []


async def test_whom_nothing_is_demanded_of_takes_the_same_steps(engine: TransformersEngine) -> None:
    prompts = [asked("required"), asked("auto"), asked(OneTool("get_time"))]
    alone = [await answer(await engine.open_session(), declared) for declared in prompts]
    sessions = [await engine.open_session() for _ in prompts]
    together = await asyncio.gather(*map(answer, sessions, prompts))
    assert [said(events) for events in together] == [said(events) for events in alone]


def said(events: list[ReplyEvent]) -> list[tuple[int, ...]]:
    return [event.ids for event in events if isinstance(event, Text | ToolCall)]


async def test_control_tokens_of_calls_belong_to_the_call(
    tmp_path: Path, engine_settings: TransformersSettings
) -> None:
    engine = TransformersEngine(str(answers_for_ever(build_voxtral(tmp_path))), engine_settings)
    await engine.start()
    try:
        assert engine.info.tools
        session = await engine.open_session()
        call = call_of(await answer(session, asked(OneTool("get_time"))))
        assert call.name == "get_time"
        tool_calls = 9
        assert call.ids[0] == tool_calls and tool_calls not in call.ids[1:]
        assert len(call.ids) == TOKENS
        assert not any(mark in call.arguments for mark in OLD_MISTRAL.control)
    finally:
        await engine.close()


@given(
    st.sets(st.text("abc", min_size=1, max_size=6), min_size=1), st.randoms(use_true_random=False)
)
def test_every_way_leads_through_one_opening(names: set[str], random: Random) -> None:
    openings = tuple((*map(ord, name), 0) for name in names)
    opening = Opening(openings)
    taken: list[int] = []
    while ways := opening.ways:
        taken.append(random.choice(ways))
        opening.take(taken[-1])
    assert tuple(taken) in openings
    opening.take(1)
    assert opening.ways == []
    assert Opening().ways == []
