"""The forms in which models were taught to write calls of functions. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from assistant.prompt import OneTool, Prompt


@dataclass(frozen=True, slots=True)
class CallFormat:
    """What a model writes around the name and the arguments of a call."""

    begin: str
    """What a call is known by, among text."""
    before_name: str
    before_arguments: str
    after_arguments: str
    end: str = ""
    """What closes it; empty: its last bracket does."""
    control: tuple[str, ...] = ()
    """Those of its marks that are control tokens: no text, whatever comes of the call."""
    holds_outputs: bool = False
    """Whether templates write the outputs of those calls alone that they write themselves."""

    def opening(self, name: str) -> str:
        """What a call of that function begins with; its arguments follow."""
        # The space before them is of one token with their bracket.
        return f"{self.begin}{self.before_name}{name}{self.before_arguments}".rstrip(" ")

    def call(self, name: str, arguments: str) -> str:
        """A whole one."""
        before = f"{self.begin}{self.before_name}{name}{self.before_arguments}"
        # Their first bracket may be known before them.
        arguments = arguments.removeprefix("{") if before.endswith("{") else arguments
        return f"{before}{arguments}{self.after_arguments}{self.end}"


_GEMMA = ("<|tool_call>", "<tool_call|>", '<|"|>')
_MISTRAL = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
FORMATS = {
    "<tool_call>": CallFormat(
        "<tool_call>", '\n{"name": "', '", "arguments": ', "}\n", end="</tool_call>"
    ),
    "<|tool_call|>": CallFormat(
        "<|tool_call|>", '[{"name": "', '", "arguments": ', "}]", control=("<|tool_call|>",)
    ),
    "<|tool_call>": CallFormat(
        "<|tool_call>",
        "call:",
        "{",
        "",
        end="<tool_call|>",
        control=_GEMMA,
        holds_outputs=True,
    ),
    # Mistral's newer form, and its older one.
    "[ARGS]": CallFormat("[TOOL_CALLS]", "", "[ARGS]", "", control=_MISTRAL),
    "[TOOL_CALLS]": CallFormat(
        "[TOOL_CALLS]", '[{"name": "', '", "arguments": ', "}]", control=_MISTRAL
    ),
}
"""By what is in the chat templates that teach it; the most telling come first."""


def taught(template: str) -> CallFormat | None:
    """The form in which a chat template has calls; None where it knows of no functions."""
    if "tools" not in template:
        return None
    return next((form for sign, form in FORMATS.items() if sign in template), None)


def demanded_in(prompt: Prompt) -> tuple[str, ...]:
    """The names of the functions of which a reply has to call one; none: it may be text."""
    match prompt.tool_choice:
        case "auto" | "none":
            return ()
        case "required":
            return tuple(tool.name for tool in prompt.tools)
        case OneTool(name):
            return (name,)
        case _:
            assert_never(prompt.tool_choice)


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call in a text."""

    name: str
    arguments: str
    """JSON, unless the model wrote something else."""
    end: int
    """Where in the text it is over."""


@dataclass(frozen=True, slots=True)
class Block:
    """What a model wrote from the mark of a call to where text may go on."""

    calls: tuple[WrittenCall, ...]
    """None: it only looked like one."""
    end: int
    """Where in the text it is over."""
    closed: bool
    """Whether the model closed it."""


def read_block(form: CallFormat, text: str, *, over: bool) -> Block | None:
    """What `text` begins with, which is the mark of a call; None: it isn't known yet.

    With `over`, no more is written. Arguments that are no JSON are taken as they were written.
    """
    start = len(form.begin)
    # One that isn't closed is over where the next begins.
    next_one = f"(?={re.escape(form.begin)})"
    closing = re.compile(f"{re.escape(form.end)}|{next_one}" if form.end else next_one)
    closed = closing.search(text, start)
    if not closed and not over and form.end:
        return None
    stop, end = closed.span() if closed else (len(text), len(text))
    calls: list[WrittenCall] = []
    try:
        for call in _calls(text[:stop], start):
            calls.append(call)
    except ValueError:
        if not closed and not over:
            return None
        calls = calls or _broken_call(form, text[:stop], start)
    else:
        end = end if form.end else calls[-1].end
    if calls:
        calls[-1] = replace(calls[-1], end=end)
    return Block(tuple(calls), end, closed=closed is not None)


_JSON = json.JSONDecoder()
_SPACE = re.compile(r"\s*")
_LIST = re.compile(r"\s*\[")
_NEXT = re.compile(r"\s*([,\]])")
_NAMED = re.compile(r"\s*([^\[{]+?)(?:\[CALL_ID\][^\[]*)?\[ARGS\]\s*")
_CALLED = re.compile(r"\s*call:([^{]+)(?=\{)")
# A string in either notation, or a key that has no quotes and what is before it.
_BARE = re.compile(
    r'<\|"\|>(.*?)<\|"\|>|("(?:[^"\\]|\\.)*")|([{,]\s*)([\w.$-]+)(?=\s*:)', re.DOTALL
)
_IN_JSON = re.compile(r'\s*\[?\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"arguments"\s*:\s*')


def _calls(text: str, at: int) -> Iterator[WrittenCall]:
    """The calls from `at` on. Raises ValueError where something else is written, or not yet all."""
    if named := _NAMED.match(text, at):
        end = _object_end(text, named.end())
        yield WrittenCall(named[1], text[named.end() : end], end)
    elif called := _CALLED.match(text, at):
        arguments = _BARE.sub(_quoted, text[called.end() :])
        yield WrittenCall(called[1], arguments[: _object_end(arguments, 0)], len(text))
    elif several := _LIST.match(text, at):
        at, separator = several.end(), ","
        while separator == ",":
            call = _in_json(text, at)
            follows = _NEXT.match(text, call.end)
            if not follows:
                raise ValueError("the list goes on otherwise")
            at, separator = follows.end(), follows[1]
            yield replace(call, end=at)
    else:
        yield _in_json(text, at)


def _in_json(text: str, at: int) -> WrittenCall:
    value, end = _JSON.raw_decode(text, _after_space(text, at))
    match value:
        case {"name": str(name), "arguments": dict(arguments)}:
            return WrittenCall(name, json.dumps(arguments, ensure_ascii=False), end)
        case _:
            raise ValueError("another object")


def _quoted(bare: re.Match[str]) -> str:
    """The same in JSON."""
    string, in_json, before, key = bare.groups()
    if string is not None:
        return json.dumps(string, ensure_ascii=False)
    return in_json or f'{before}"{key}"'


def _object_end(text: str, at: int) -> int:
    if not text.startswith("{", at):
        raise ValueError("no object")
    _, end = _JSON.raw_decode(text, at)
    return end


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space
    return space.end()


def _broken_call(form: CallFormat, text: str, at: int) -> list[WrittenCall]:
    """The call whose beginning is well-formed, if one is, and its arguments as they are."""
    heads = (_NAMED, _CALLED, _IN_JSON)
    begun = next((match for head in heads if (match := head.match(text, at))), None)
    if not begun:
        return []
    arguments = text[begun.end() :]
    try:
        arguments = arguments[: _object_end(arguments, 0)]
    except ValueError:
        arguments = arguments.strip().removesuffix(form.after_arguments.strip())
    return [WrittenCall(begun[1], arguments, len(text))]
