"""How commands end: what went wrong as one line, and signals in order."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from assistant.errors import AssistantError
from assistant.view import printable
from audio_io.errors import AudioError

# The second is unknown to Windows.
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def errors_told() -> Iterator[None]:
    """What goes wrong is one line, and a status that says so."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(128 + signal.SIGINT) from interrupt
    except BrokenPipeError as error:
        # Who reads the output has had enough, and need not be told.
        _discard_output()
        raise typer.Exit(1) from error
    except (AssistantError, AudioError, OSError) as error:
        # It may quote what came from elsewhere.
        typer.echo(f"assistant: {printable(_in_words(error))}", err=True)
        if isinstance(error, OSError):
            _discard_output()
        raise typer.Exit(1) from error


def _in_words(error: Exception) -> str:
    match error:
        case OSError(strerror=str() as said, filename=str() as name):
            return f"{name}: {said}"
        case OSError(strerror=str() as said):
            return said
        case _:
            return str(error)


def _discard_output() -> None:
    """Let the interpreter not try again, when it ends, to write what couldn't be written."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM, and SIGHUP from a terminal that is closed, do what Ctrl-C does.

    One that is ignored remains so, as with nohup.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        # That of asyncio, where it runs; none, where the shell has Ctrl-C ignored.
        by_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(by_ctrl_c):
            raise KeyboardInterrupt
        by_ctrl_c(number, frame)

    signals = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in signals:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
