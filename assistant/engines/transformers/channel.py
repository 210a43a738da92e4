"""Messages over a socket, each pickled behind its length.

The worker's end blocks; the other belongs to an event loop. Both are ours, so pickle is safe.
"""

from __future__ import annotations

import asyncio
import pickle
import selectors
import socket
import struct
from types import TracebackType
from typing import Self, cast

from assistant.engines.transformers.messages import FromWorker, ToWorker

_LENGTH = struct.Struct("!Q")


def packed(message: ToWorker | FromWorker) -> bytes:
    """The message as it crosses."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> FromWorker:
    """The worker's next message. Raises EOFError or ConnectionError when it has gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return cast(FromWorker, pickle.loads(await reader.readexactly(length)))


class Channel:
    """The worker's end. Raises EOFError or ConnectionError when the other end has gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)

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
        """The next message, waiting for it."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return cast(ToWorker, pickle.loads(self._read(length)))

    def send(self, message: FromWorker) -> None:
        """Waits while the other end is behind with reading."""
        self._socket.sendall(packed(message))

    def _read(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            if not (count := self._socket.recv_into(view)):
                raise EOFError
            view = view[count:]
        return buffer
