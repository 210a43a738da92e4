"""Messages over a socket, each behind a header.

The worker's end blocks; the other belongs to an event loop. Both are ours, so pickle is safe.
Nearly all messages are pieces of text. They cross as bare tuples, by the plainer `marshal`, at an
eighth of the time.
"""

from __future__ import annotations

import asyncio
import marshal
import pickle
import select
import socket
import struct
from types import TracebackType
from typing import Self, cast

from assistant.engines.engine import Text
from assistant.engines.transformers.messages import Answer, FromWorker, ToWorker

HEADER = struct.Struct("!?Q")
"""Whether it is a piece of text, and the length of what follows."""


def packed(message: ToWorker | FromWorker) -> bytes:
    """The message as it crosses."""
    return _framed(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def unpacked(body: bytes, *, is_text: bool) -> FromWorker:
    """What the worker has sent, without its header."""
    if not is_text:
        return cast(FromWorker, pickle.loads(body))
    request_id, text, ids = marshal.loads(body)
    return Answer(request_id, Text(text, ids))


async def receive(reader: asyncio.StreamReader) -> FromWorker:
    """The worker's next message. Raises EOFError or ConnectionError when it has gone."""
    is_text, length = HEADER.unpack(await reader.readexactly(HEADER.size))
    return unpacked(await reader.readexactly(length), is_text=is_text)


def _framed(body: bytes, *, is_text: bool = False) -> bytes:
    return HEADER.pack(is_text, len(body)) + body


class Channel:
    """The worker's end. Raises EOFError or ConnectionError when the other end has gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._unsent = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def waiting(self) -> bool:
        """Whether a message, or the end, is there to be received."""
        return bool(self._poll.poll(0))

    def receive(self) -> ToWorker:
        """The next message, waiting for it. What is to be sent goes out before."""
        self.flush()
        _, length = HEADER.unpack(self._read(HEADER.size))
        return cast(ToWorker, pickle.loads(self._read(length)))

    def send(self, message: FromWorker) -> None:
        """Goes out with the next `flush`, all at once."""
        self._unsent += packed(message)

    def say(self, request_id: int, text: Text) -> None:
        """Send a piece of the answer to a request, with the next `flush` too.

        Its ids are Python's own numbers: `marshal` takes others for bytes.
        """
        self._unsent += _framed(marshal.dumps((request_id, text.text, text.ids)), is_text=True)

    def flush(self) -> None:
        """Waits while the other end is behind with reading."""
        if self._unsent:
            unsent, self._unsent = self._unsent, bytearray()
            self._socket.sendall(unsent)

    def _read(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            if not (count := self._socket.recv_into(view)):
                raise EOFError
            view = view[count:]
        return buffer
