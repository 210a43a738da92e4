"""The conversation as a person sees it: on a terminal, and as text in a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from rich.console import Console
from rich.live import Live

from assistant.terminal import PlainView, TerminalView, meter, open_terminal
from assistant.view import Problem, Reply, Speech, View

CONVERSATION = (
    Speech("item_1", 0, 1500),
    Reply("resp_1", "one two three four five", "interrupted"),
    Speech("item_2", 4000, 800),
    Reply("resp_2", "Yes.\n\nIndeed.", "completed"),
    Problem("event_1", "too loud"),
    Reply("resp_3", "", "failed", "out of memory"),
)


def as_it_comes(conversation: Iterable[object]) -> Iterable[View]:
    """Each state between an empty view and the whole conversation, text by the character."""
    view = View("scripted", level_dbfs=-30)
    yield view
    for turn in conversation:
        match turn:
            case Speech():
                yield replace(view, turns=(*view.turns, replace(turn, duration_ms=None)))
            case Reply():
                for end in range(len(turn.text) + 1):
                    part = replace(turn, text=turn.text[:end], status="replying", detail="")
                    yield replace(view, turns=(*view.turns, part))
        view = replace(view, turns=(*view.turns, turn))
        yield view


def screen(output: str) -> list[str]:
    """The lines that a terminal shows after `output`, with the few codes that rich uses."""
    lines, row, column = [""], 0, 0
    for code, parameters, command, character in _PIECES.findall(output):
        match command or character:
            case "A" if code:
                row -= int(parameters)
            case "K" if code:
                lines[row] = ""
            case "m" | "h" | "l" if code:
                pass
            case _ if code:
                raise AssertionError(f"unknown: {code!r}")
            case "\r":
                column = 0
            case "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            case _:
                lines[row] = lines[row][:column].ljust(column) + character
                column += 1
    return "\n".join(line.rstrip() for line in lines).rstrip().split("\n")


_PIECES = re.compile(r"(?s)(\x1b\[([0-9;?]*)([a-zA-Z]))|(.)")


@contextmanager
def terminal_of(width: int) -> Iterator[tuple[TerminalView, io.StringIO]]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=20, color_system=None)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield TerminalView(live), out


def test_on_a_terminal() -> None:
    with terminal_of(width=12) as (terminal, out):
        for view in as_it_comes(CONVERSATION):
            terminal.show(view)
        terminal.end()
    assert screen(out.getvalue()) == [
        *["You spoke", "for 1.5 s."],
        *["one two", "three four", "five", "you", "interrupted"],
        *["You spoke", "for 0.8 s."],
        *["Yes.", "", "Indeed."],
        *["too loud"],
        *["the reply", "failed: out", "of memory"],
    ]


def test_what_still_changes_is_below_with_the_status() -> None:
    reply = Reply("resp_1", "one two three four five si")
    with terminal_of(width=60) as (terminal, out):
        terminal.show(View("scripted", level_dbfs=-30))
        assert screen(out.getvalue()) == ["● Listening   ████████░░░░░░░░  Ctrl-C ends"]
    with terminal_of(width=60) as (terminal, out):
        for end in range(len(reply.text) + 1):
            part = replace(reply, text=reply.text[:end])
            terminal.show(View("scripted", (part,), level_dbfs=-100, lost_ms=40))
        assert screen(out.getvalue()) == [
            "one two three four five si",
            "● Replying    ░░░░░░░░░░░░░░░░  40 ms lost  Ctrl-C ends",
        ]
        terminal.end()
    # What was said stays, though it never came to its end.
    assert screen(out.getvalue()) == ["one two three four five si"]


def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    # pytest's capture is no terminal.
    with open_terminal() as show:
        for view in as_it_comes(CONVERSATION):
            show(replace(view, lost_ms=20 * bool(view.turns)))
    out, err = capsys.readouterr()
    assert out == "one two three four five\nYes.\n\nIndeed.\n"
    assert err.splitlines() == [
        "Listening; scripted answers.",
        "20 ms of the microphone's sound were lost so far.",
        "You spoke for 1.5 s.",
        "you interrupted",
        "You spoke for 0.8 s.",
        "too loud",
        "the reply failed: out of memory",
    ]


def test_as_text_it_streams() -> None:
    replies = io.StringIO()
    plain = PlainView(replies, io.StringIO())
    written = []
    for view in as_it_comes([Reply("resp_1", "one two", "completed")]):
        plain.show(view)
        written.append(replies.getvalue())
    assert written == ["", *("one two"[:end] for end in range(8)), "one two\n"]


def test_as_text_an_unfinished_reply_ends_its_line() -> None:
    replies = io.StringIO()
    plain = PlainView(replies, io.StringIO())
    plain.show(View("scripted", (Reply("resp_1", "one tw"),)))
    plain.end()
    assert replies.getvalue() == "one tw\n"


@pytest.mark.parametrize(
    ("level_dbfs", "bar"),
    [
        (None, "░░░░░░░░░░░░░░░░"),
        (-100, "░░░░░░░░░░░░░░░░"),
        (-60, "░░░░░░░░░░░░░░░░"),
        (-30, "████████░░░░░░░░"),
        (0, "████████████████"),
    ],
)
def test_the_level_meter(level_dbfs: float | None, bar: str) -> None:
    assert meter(level_dbfs) == bar
