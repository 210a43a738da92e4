"""Calls of functions, told from the text of a reply in every form that is known."""

from __future__ import annotations

import json
import re
from itertools import count
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    Text,
    Timings,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.engines.transformers.call_formats import FORMATS, CallFormat, taught
from assistant.engines.transformers.calls import CallReader

QWEN, GRANITE, GEMMA, MISTRAL, OLD_MISTRAL = FORMATS.values()
ROME = '{"city": "Rome"}'
CITY = ("get_weather", {"city": "Rome"})
TIME = ("get_time", {})


def finished(reason: Literal["stop", "length"] = "stop") -> Finished:
    return Finished(reason, Usage(TokenCount(), TokenCount(), 1), Timings(1, 2, 3))


def read(form: CallFormat, *pieces: str, end: Finished | None = None) -> list[ReplyEvent]:
    """What a reply of these pieces comes to, each of which has its number for its id."""
    numbers = count()
    reader = CallReader(form, lambda: f"call_{next(numbers)}")
    events = [Text(piece, (id_,)) for id_, piece in enumerate(pieces)]
    return [read for event in [*events, end or finished()] for read in reader.read(event)]


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
                short.append((event.name, parsed(event.arguments)))
    return short


def parsed(arguments: str) -> Any:
    """The object, or, where they are none, the text."""
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return arguments


def ids_of(events: list[ReplyEvent]) -> list[int]:
    return [id_ for e in events if isinstance(e, Text | ToolCall) for id_ in e.ids]


def in_pieces(form: CallFormat, written: str, random: Random) -> list[str]:
    """At random, but for control tokens, which come alone."""
    marks = "|".join(map(re.escape, form.control))
    pieces: list[str] = []
    for part in re.split(f"({marks})", written) if marks else [written]:
        if part in form.control:
            pieces.append(part)
            continue
        while part:
            size = random.randint(1, min(len(part), 9))
            pieces.append(part[:size])
            part = part[size:]
    return pieces


CALL = QWEN.call("get_weather", ROME)


@pytest.mark.parametrize(
    ("form", "written", "meant"),
    [
        (QWEN, "Hello <b>there</b>", ["Hello <b>there</b>"]),
        (QWEN, CALL, [CITY]),
        (QWEN, f"Let me see.\n{CALL}", ["Let me see.", CITY]),
        (QWEN, f"{CALL}\n{CALL}", [CITY, CITY]),
        (QWEN, f"One.\n{CALL} Two.", ["One.", CITY, " Two."]),
        (QWEN, f'<tool_call>{{"arguments":{ROME},"name":"get_weather"}}</tool_call>', [CITY]),
        (QWEN, f"{CALL.removesuffix(QWEN.end)}{CALL}", [CITY, CITY]),
        (QWEN, "<tool_call>Rome</tool_call>", ["<tool_call>Rome</tool_call>"]),
        (QWEN, '<tool_call>{"name": "f"}</tool_call>', ['<tool_call>{"name": "f"}</tool_call>']),
        (QWEN, "A <tool_call> is", ["A <tool_call> is"]),
        (QWEN, "trailing \n", ["trailing \n"]),
        (QWEN, "a <tool", ["a <tool"]),
        # Arguments that are no JSON are what the model wrote; a bracket too many or too few is not.
        (QWEN, QWEN.call("get_weather", "{city: Rome}"), [("get_weather", "{city: Rome}")]),
        (QWEN, CALL.replace("}}", "}}}"), [CITY]),
        (QWEN, CALL.replace("}}", "}"), [CITY]),
        (QWEN, CALL.removesuffix("}}\n</tool_call>"), [("get_weather", '{"city": "Rome"')]),
        (GRANITE, f"So: {GRANITE.call('get_weather', ROME)}", ["So:", CITY]),
        (
            GRANITE,
            '<|tool_call|> [{"name": "get_weather", "arguments": {"city": "Rome"}},\n'
            ' {"name": "get_time", "arguments": {}}] And?',
            [CITY, TIME, " And?"],
        ),
        (
            GRANITE,
            '<|tool_call|>[{"name": "get_time", "arguments": {}}, {"name": "get_',
            [TIME],
        ),
        (GRANITE, '<|tool_call|>{"name": "get_time", "arguments": {}}', [TIME]),
        (GRANITE, "A <|tool_call|>[]", ["A []"]),
        (
            GEMMA,
            '<|tool_call>call:f{city:<|"|>Rome, "it: {x"<|"|>,n:-2.5,now:true,'
            'at:[1,{b:<|"|><|"|>}]}<tool_call|><|tool_call>call:get_time{}<tool_call|>',
            [("f", {"city": 'Rome, "it: {x"', "n": -2.5, "now": True, "at": [1, {"b": ""}]}), TIME],
        ),
        (GEMMA, "<|tool_call>call:f{a:Rome}<tool_call|>.", [("f", "{a:Rome}"), "."]),
        (GEMMA, '<|tool_call>call:f{a:<|"|>Ro', [("f", '{a:<|"|>Ro')]),
        (GEMMA, "A <|tool_call>f<tool_call|>.", ["A f."]),
        (
            MISTRAL,
            "So.[TOOL_CALLS]get_time[ARGS]{}[TOOL_CALLS]get_weather[CALL_ID]VvvODy9mT[ARGS]" + ROME,
            ["So.", TIME, CITY],
        ),
        (
            MISTRAL,
            "[TOOL_CALLS]get_weather[ARGS]Rome[TOOL_CALLS]get_time[ARGS]{}",
            [("get_weather", "Rome"), TIME],
        ),
        (MISTRAL, "[ARGS]or [TOOL_CALLS]what", ["or what"]),
        (
            OLD_MISTRAL,
            '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}, "id": "VvvODy9mT"}'
            ', {"name": "get_time", "arguments": {}, "id": "D681PevKs"}]',
            [CITY, TIME],
        ),
        # Each of Mistral's is read whichever was taught.
        (OLD_MISTRAL, MISTRAL.call("get_weather", ROME), [CITY]),
        (MISTRAL, OLD_MISTRAL.call("get_weather", ROME), [CITY]),
    ],
)
def test_calls_are_told_from_text_however_they_come(
    form: CallFormat, written: str, meant: list[Any]
) -> None:
    for seed in range(10):
        pieces = in_pieces(form, written, Random(seed))
        events = read(form, *pieces)
        assert events[-1] == finished()
        assert in_short(events) == meant


def test_what_was_cut_off_before_it_named_a_function_is_nothing() -> None:
    for form in FORMATS.values():
        begun = form.opening("get_weather")[:-8]
        assert in_short(read(form, "So.", " ", begun, end=finished("length"))) == ["So."]


def test_text_waits_no_longer_than_it_may_be_a_call() -> None:
    reader = CallReader(QWEN, lambda: "call")
    texts = [Text(text, ()) for text in ("Hello", " <", "b>", "\n", "more")]
    assert [[e.text for e in reader.read(text) if isinstance(e, Text)] for text in texts] == [
        ["Hello"],
        [],
        [" <", "b>"],
        [],
        ["\n", "more"],
    ]


@pytest.mark.parametrize("form", FORMATS.values())
def test_a_call_is_there_with_its_last_character(form: CallFormat) -> None:
    reader = CallReader(form, lambda: "call_1")
    *pieces, last = in_pieces(form, form.call("get_weather", ROME), Random(0))
    before = [event for piece in pieces for event in reader.read(Text(piece, (1,)))]
    assert before == []
    ids = (1,) * len(pieces) + (2,)
    assert reader.read(Text(last, (2,))) == [ToolCall("call_1", "get_weather", ROME, ids)]


@given(
    st.sampled_from([*FORMATS.values()]),
    st.lists(
        st.one_of(
            st.text("ab <[{}]\n", min_size=1).map(str.strip).filter(bool),
            st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=5), st.integers())),
        ),
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_any_reply_of_texts_and_calls(
    form: CallFormat, said: list[str | dict[str, Any]], random: Random
) -> None:
    written, meant = "", list[Any]()
    for part in said:
        if isinstance(part, dict):
            written += form.call("f", json.dumps(part, ensure_ascii=random.random() < 0.5))
            meant.append(("f", part))
        elif meant and isinstance(meant[-1], str):
            continue
        else:
            written += part
            meant.append(part)
    pieces = in_pieces(form, written, random)
    events = read(form, *pieces)
    assert in_short(events) == meant
    # No token is lost, and their order is kept.
    assert ids_of(events) == list(range(len(pieces)))


@given(
    st.sampled_from([*FORMATS.values()]),
    st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "<",
                "tool_call>",
                "{",
                "}",
                " ",
                "a",
                "[",
                "]",
                "[TOOL_CALLS]",
                "[ARGS]",
                "<|tool_call|>",
                ROME,
                CALL,
            ]
        ),
        max_size=12,
    ),
)
def test_whatever_is_written_nothing_of_it_is_lost(form: CallFormat, pieces: list[str]) -> None:
    events = read(form, *pieces)
    kept = [id_ for id_, piece in enumerate(pieces) if piece not in form.control]
    assert [id_ for id_ in ids_of(events) if id_ in kept] == kept
    if not any(isinstance(event, ToolCall) for event in events):
        said = "".join(e.text for e in events if isinstance(e, Text))
        assert said == "".join(pieces[id_] for id_ in kept)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% for tool in tools %} <tool_call> </tool_call>", QWEN),
        ("{% set available_tools = tools %} <|tool_call|>", GRANITE),
        ("{% if tools %} <|tool_call>call: <tool_call|>", GEMMA),
        ("tools [TOOL_CALLS] [ARGS]", MISTRAL),
        ("tools [TOOL_CALLS]", OLD_MISTRAL),
        ("{{ messages }} <tool_call>", None),
        ("{{ tools }}", None),
    ],
)
def test_a_template_tells_what_it_teaches(template: str, form: CallFormat | None) -> None:
    assert taught(template) == form
