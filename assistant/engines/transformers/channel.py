"""Messages over a socket, each pickled behind its length.

The worker's end blocks; the other belongs to an event loop. Both are ours, so pickle is safe.
Nearly all messages are pieces of text. They cross as bare tuples, at a tenth of the time.
"""

from __future__ import annotations

import asyncio
import pickle
import selectors
import socket
import struct
from types import TracebackType
from typing import Self, cast

from assistant.engines.engine import Text
from assistant.engines.transformers.messages import Answer, FromWorker, ToWorker

_LENGTH = struct.Struct("!Q")


def packed(message: ToWorker | FromWorker) -> bytes:
    """The message as it crosses."""
    bare: object = message
    if isinstance(message, Answer) and isinstance(message.content, Text):
        bare = message.request_id, message.content.text, message.content.ids
    body = pickle.dumps(bare, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def unpacked(body: bytes) -> FromWorker:
    """What the worker has packed, without its length."""
    match pickle.loads(body):
        case (request_id, text, ids):
            return Answer(request_id, Text(text, ids))
        case message:
            return cast(FromWorker, message)


async def receive(reader: asyncio.StreamReader) -> FromWorker:
    """The worker's next message. Raises EOFError or ConnectionError when it has gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return unpacked(await reader.readexactly(length))


class Channel:
    """The worker's end. Raises EOFError or ConnectionError when the other end has gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._unsent = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._selector.close()
        self._socket.close()

    @property
    def waiting(self) -> bool:
        """Whether a message, or the end, is there to be received."""
        return bool(self._selector.select(timeout=0))

    def receive(self) -> ToWorker:
        """The next message, waiting for it. What is to be sent goes out before."""
        self.flush()
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return cast(ToWorker, pickle.loads(self._read(length)))

    def send(self, message: FromWorker) -> None:
        """Goes out with the next `flush`, all at once."""
        self._unsent += packed(message)

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
