"""Lines that a person types, while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from threading import Thread

MAX_LINE_BYTES = 64 * 1024


async def typed_lines(file_descriptor: int, invite: Callable[[], None]) -> AsyncIterator[str]:
    """The lines that come from there, up to its end; `invite` is called before each."""
    loop = asyncio.get_running_loop()
    while True:
        invite()
        line: asyncio.Future[bytes] = loop.create_future()
        # A daemon, since reading can't be interrupted: who leaves doesn't wait for a last line.
        Thread(target=_read_line, args=(file_descriptor, line), daemon=True).start()
        if not (data := await line):
            return
        yield data.decode(errors="replace")


def _read_line(file_descriptor: int, line: asyncio.Future[bytes]) -> None:
    # Unbuffered: what is buffered would hold up the interpreter's end with its lock.
    with open(file_descriptor, "rb", buffering=0, closefd=False) as file:
        data = file.readline(MAX_LINE_BYTES)
    loop = line.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, line, data)


def _settle(line: asyncio.Future[bytes], data: bytes) -> None:
    if not line.done():
        line.set_result(data)
