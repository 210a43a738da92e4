"""Lines that a person types, while the event loop goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from assistant.tasks import beside

MAX_LINE_BYTES = 64 * 1024


async def typed_lines(file_descriptor: int, invite: Callable[[], None]) -> AsyncIterator[str]:
    """The lines that come from there, up to its end; `invite` is called before each."""
    while True:
        invite()
        # Who leaves doesn't wait for a last line.
        if not (data := await beside(lambda: _read_line(file_descriptor))):
            return
        yield data.decode(errors="replace")


def _read_line(file_descriptor: int) -> bytes:
    # Unbuffered: what is buffered would hold up the interpreter's end with its lock.
    with open(file_descriptor, "rb", buffering=0, closefd=False) as file:
        return file.readline(MAX_LINE_BYTES)
