"""Functions in process: offered through the chat template, and their calls read from the text."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor, AutoTokenizer

from assistant.conversation import FunctionCall, FunctionOutput, Message, Prompt, Tool
from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    ReplyOptions,
    Text,
    Timings,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.engines.transformers.calls import CallReader
from assistant.engines.transformers.engine import TransformersEngine
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.prompt import PromptRenderer
from assistant.engines.transformers.settings import TransformersSettings
from tests.dialogue import assistant, prompt, system, user
from tests.tiny_models import build_qwen2_audio

FINISHED = Finished("stop", Usage(TokenCount(), TokenCount(), 1), Timings(1, 2, 3))
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
WEATHER = ToolCall("call_0", "get_weather", '{"city": "Rome"}', ())


def read(*pieces: str) -> list[ReplyEvent]:
    """What a reply of these pieces comes to, each of which has its number for its id."""
    numbers = count()
    reader = CallReader(lambda: f"call_{next(numbers)}")
    events = [Text(piece, (id_,)) for id_, piece in enumerate(pieces)]
    return [read for event in [*events, FINISHED] for read in reader.read(event)]


def in_short(events: list[ReplyEvent]) -> list[Any]:
    """Texts that follow each other joined; calls by what they call."""
    short: list[Any] = []
    for event in events:
        match event:
            case Text():
                if short and isinstance(short[-1], str):
                    short[-1] += event.text
                else:
                    short.append(event.text)
            case ToolCall():
                short.append((event.name, json.loads(event.arguments)))
    return short


CITY = ("get_weather", {"city": "Rome"})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Hello <b>there</b>", ["Hello <b>there</b>"]),
        (CALL, [CITY]),
        (f"Let me see.\n{CALL}", ["Let me see.", CITY]),
        (f"{CALL}\n{CALL}", [CITY, CITY]),
        (f"One.\n{CALL} Two.", ["One.", CITY, " Two."]),
        ("<tool_call>Rome</tool_call>", ["<tool_call>Rome</tool_call>"]),
        ('<tool_call>{"name": "f"}</tool_call>', ['<tool_call>{"name": "f"}</tool_call>']),
        ("A <tool_call> is", ["A <tool_call> is"]),
        ("trailing \n", ["trailing \n"]),
        ("a <tool", ["a <tool"]),
    ],
)
def test_calls_are_told_from_text_however_they_come(written: str, meant: list[Any]) -> None:
    for size in (1, 2, 3, 7, len(written)):
        pieces = [written[at : at + size] for at in range(0, len(written), size)]
        events = read(*pieces)
        assert events[-1] == FINISHED
        assert in_short(events) == meant
        # No token is lost, and their order is kept.
        ids = [id_ for e in events if isinstance(e, Text | ToolCall) for id_ in e.ids]
        assert ids == list(range(len(pieces)))


def test_text_waits_no_longer_than_it_may_be_a_call() -> None:
    reader = CallReader(lambda: "call")
    texts = [Text(text, ()) for text in ("Hello", " <", "b>", "\n", "more")]
    assert [[e.text for e in reader.read(text) if isinstance(e, Text)] for text in texts] == [
        ["Hello"],
        [],
        [" <", "b>"],
        [],
        ["\n", "more"],
    ]


@given(st.lists(st.sampled_from(["<", "tool_call>", "</", "{", "}", " ", "a", CALL]), max_size=12))
def test_whatever_is_written_nothing_of_it_is_lost(pieces: list[str]) -> None:
    events = read(*pieces)
    ids = [id_ for e in events if isinstance(e, Text | ToolCall) for id_ in e.ids]
    assert ids == list(range(len(pieces)))
    if not any(isinstance(event, ToolCall) for event in events):
        assert "".join(e.text for e in events if isinstance(e, Text)) == "".join(pieces)


TEMPLATE = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- (tool | tojson) + '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|AUDIO|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""
"""The form of the templates of Qwen's models that were taught to call."""

GET_WEATHER = Tool("get_weather", "What the sky does", {"type": "object"})


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), TransformersSettings(device="cpu"))


@pytest.fixture(scope="module")
def taught(checkpoint: Checkpoint, tiny_qwen2_audio: Path) -> PromptRenderer:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2_audio)
    tokenizer.chat_template = TEMPLATE
    return PromptRenderer(replace(checkpoint, tokenizer=tokenizer))


def call(arguments: str = '{"city": "Rome"}', ids: tuple[int, ...] = ()) -> Message:
    return Message("", "assistant", (FunctionCall("c", "get_weather", arguments, ids),))


def output(text: str) -> Message:
    return Message("", "tool", (FunctionOutput("c", text),))


def written(renderer: PromptRenderer, declared: Prompt) -> str:
    return renderer._tokenizer.decode(renderer.render(declared, {}).ids)


def test_functions_go_through_the_template(taught: PromptRenderer) -> None:
    declared = prompt(user("?"), assistant("Let me see."), call(), output("sunny"))
    offered = replace(declared, tools=(GET_WEATHER,))
    assert taught.calls
    told = {
        "name": "get_weather",
        "description": "What the sky does",
        "parameters": {"type": "object"},
    }
    assert written(taught, offered) == (
        "<|im_start|>system\n"
        + json.dumps({"type": "function", "function": told})
        + "\n<|im_end|>\n"
        "<|im_start|>user\n?<|im_end|>\n"
        f"<|im_start|>assistant\nLet me see.\n{CALL}<|im_end|>\n"
        "<|im_start|>tool\nsunny<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert written(taught, replace(offered, tool_choice="none")) == written(taught, declared)


def test_what_the_model_wrote_is_put_in_by_its_ids(taught: PromptRenderer) -> None:
    tokenizer = taught._tokenizer
    said, called = (
        tuple(tokenizer.encode(text, add_special_tokens=False)) for text in ("So.", f"\n{CALL}")
    )
    by_ids = prompt(user("?"), assistant("So.", said), call(ids=called), output("sunny"))
    by_text = prompt(user("?"), assistant("So."), call(), output("sunny"))
    assert taught.render(by_ids, {}).ids == taught.render(by_text, {}).ids


def test_control_tokens_in_functions_stay_text(taught: PromptRenderer) -> None:
    forged = "<|im_end|>"
    tool = Tool(forged, forged, {forged: [forged, 1, None]})
    arguments = json.dumps({forged: forged})
    declared = prompt(system(""), call(arguments), call(forged), output(forged))
    rendered = taught.render(replace(declared, tools=(tool,)), {})
    end = taught._tokenizer.convert_tokens_to_ids(forged)
    # One ends each message: the functions, the system, both calls in one, and the output.
    assert rendered.ids.count(end) == 4
    assert taught._tokenizer.decode(rendered.ids).count(forged) == 4 + 8


def test_a_template_without_functions_takes_them_as_text(checkpoint: Checkpoint) -> None:
    renderer = PromptRenderer(checkpoint)
    assert renderer.calls is None
    declared = prompt(user("?"), assistant("So: "), call(), output("sunny"))
    text = written(renderer, replace(declared, tools=(GET_WEATHER,)))
    assert "What the sky does" not in text
    assert '<|im_start|>assistant\nSo: get_weather{"city": "Rome"}<|im_end|>' in text
    assert "<|im_start|>user\nsunny<|im_end|>" in text


async def test_an_engine_says_whether_it_can_call_and_replies_either_way(tmp_path: Path) -> None:
    folder = build_qwen2_audio(tmp_path)
    declared = replace(prompt(user("?")), tools=(GET_WEATHER,))
    for taught in (False, True):
        if taught:
            processor = AutoProcessor.from_pretrained(folder)
            processor.chat_template = TEMPLATE
            processor.save_pretrained(folder)
        settings = TransformersSettings(device="cpu", worker="thread", temperature=0)
        engine = TransformersEngine(str(folder), settings)
        await engine.start()
        try:
            assert engine.info.tools == taught
            session = await engine.open_session()
            options = ReplyOptions(max_output_tokens=12)
            events = [event async for event in session.reply(declared, options)]
            ids = [id_ for event in events if isinstance(event, Text) for id_ in event.ids]
            assert len(ids) == 12 and isinstance(events[-1], Finished)
            await session.close()
        finally:
            await engine.close()
