"""The conversation on a terminal, or as plain text where the output is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, assert_never

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from assistant.view import Activity, Problem, Reply, ReplyStatus, Speech, Turn, View
from assistant.wrapping import wrapped

Show = Callable[[View], None]
"""Shows a view; called again with each new one."""

METER_CELLS = 16
METER_FLOOR_DBFS = -60.0
"""Where the level meter begins; a quiet room is about there."""

_ACTIVITY: dict[Activity, tuple[str, str]] = {
    "connecting": ("Connecting", "dim"),
    "listening": ("Listening", "green"),
    "hearing": ("Hearing you", "bold green"),
    "thinking": ("Thinking", "yellow"),
    "replying": ("Replying", "cyan"),
}
_ENDING: dict[ReplyStatus, str] = {
    "replying": "",
    "completed": "",
    "interrupted": "you interrupted",
    "stopped": "stopped",
    "incomplete": "cut off at the length limit",
    "failed": "the reply failed",
}


@contextmanager
def open_terminal() -> Iterator[Show]:
    """Where standard output is a terminal, draw there; otherwise write plain text.

    As text, the replies go to standard output and everything else to standard error.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        plain = PlainView(sys.stdout, sys.stderr)
        try:
            yield plain.show
        finally:
            plain.end()
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        terminal = TerminalView(live)
        try:
            yield terminal.show
        finally:
            terminal.end()


class PlainView:
    """Writes what is new of each view, as it comes."""

    def __init__(self, replies: TextIO, notes: TextIO) -> None:
        self._replies = replies
        self._notes = notes
        self._shown = View()
        self._turns_done = 0
        self._characters_done = 0

    def show(self, view: View) -> None:
        if view.activity == "listening" and self._shown.activity == "connecting":
            self._note(f"Listening; {view.model} answers.")
        if view.lost_ms != self._shown.lost_ms:
            self._note(f"{view.lost_ms} ms of the microphone's sound were lost so far.")
        for turn in view.turns[self._turns_done :]:
            if isinstance(turn, Reply):
                self._replies.write(turn.text[self._characters_done :])
                self._characters_done = len(turn.text)
            if turn.is_open:
                break
            if isinstance(turn, Reply) and turn.text:
                self._replies.write("\n")
            self._note(remark(turn))
            self._turns_done += 1
            self._characters_done = 0
        self._replies.flush()
        self._shown = view

    def end(self) -> None:
        """Nothing more will be shown."""
        if self._characters_done:
            self._replies.write("\n")
        self._replies.flush()

    def _note(self, text: str) -> None:
        if text:
            print(text, file=self._notes, flush=True)


class TerminalView:
    """Prints what can't change any more, and keeps the rest below it, above a line of status."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._turns_done = 0
        self._characters_done = 0
        self._rest = ""

    def show(self, view: View) -> None:
        console = self._live.console
        self._rest = ""
        for turn in view.turns[self._turns_done :]:
            if isinstance(turn, Reply):
                lines = wrapped(turn.text[self._characters_done :], console.width)
                self._rest = lines.pop()
                for line in lines:
                    console.print(Text(line.rstrip(" \n")))
                    self._characters_done += len(line)
            if turn.is_open:
                break
            self._print_rest()
            if words := remark(turn):
                console.print(Text(words, style="dim"))
            self._turns_done += 1
            self._characters_done = 0
        rest = [Text(self._rest)] if self._rest else []
        self._live.update(Group(*rest, status(view)), refresh=True)

    def end(self) -> None:
        """Nothing more will be shown."""
        self._print_rest()

    def _print_rest(self) -> None:
        if self._rest:
            self._live.console.print(Text(self._rest))
        self._rest = ""


def remark(turn: Turn) -> str:
    """What there is to say of a turn that is over, besides a reply's text."""
    match turn:
        case Speech():
            return f"You spoke for {(turn.duration_ms or 0) / 1000:.1f} s."
        case Reply():
            return ": ".join(words for words in (_ENDING[turn.status], turn.detail) if words)
        case Problem():
            return turn.text
        case _:
            assert_never(turn)


def status(view: View) -> Text:
    """What is going on, how loud it is, and what was lost."""
    words, style = _ACTIVITY[view.activity]
    lost = f"  {view.lost_ms} ms lost" if view.lost_ms else ""
    return Text.assemble(
        (f"● {words:<12}", style),
        (meter(view.level_dbfs), "green"),
        (f"{lost}  Ctrl-C ends", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def meter(level_dbfs: float | None) -> str:
    """A bar of METER_CELLS cells, empty at METER_FLOOR_DBFS or None and full at 0 dBFS."""
    if level_dbfs is None:
        level_dbfs = METER_FLOOR_DBFS
    filled = round(METER_CELLS * (1 - level_dbfs / METER_FLOOR_DBFS))
    filled = min(max(filled, 0), METER_CELLS)
    return "█" * filled + "░" * (METER_CELLS - filled)
