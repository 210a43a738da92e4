"""Blocks of audio from a device's thread to the event loop; the device never waits.

Backpressure: when the loop falls behind, the oldest blocks go, and are counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Handover:
    """A bounded queue: `put` and `close` from the device's thread, `take` on the event loop.

    To be made on the loop that takes from it.
    """

    def __init__(self, max_blocks: int) -> None:
        self._blocks: deque[bytes] = deque()
        self._max_blocks = max_blocks
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._told = False
        self._closed = False
        self.dropped_bytes = 0
        """How much went because nobody took it in time."""

    @property
    def pending(self) -> bool:
        """Whether there are blocks to take."""
        return bool(self._blocks)

    def put(self, block: bytes) -> None:
        """Hand over one block; never waits."""
        if len(self._blocks) == self._max_blocks:
            # Unless it has been taken just now.
            with suppress(IndexError):
                self.dropped_bytes += len(self._blocks.popleft())
        self._blocks.append(block)
        self._tell()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._tell()

    async def take(self) -> bytes:
        """All that has come since the last time, at least one block; empty once closed."""
        while True:
            # Taken back before looking: a block that comes after the look is told of again.
            self._told = False
            self._news.clear()
            if self._blocks or self._closed:
                break
            await self._news.wait()
        blocks = []
        # Not counted first, since the device's thread goes on putting and dropping.
        with suppress(IndexError):
            while True:
                blocks.append(self._blocks.popleft())
        return b"".join(blocks)

    def _tell(self) -> None:
        # One call is enough for any number of blocks; each would wake the loop through a socket.
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._news.set)
