"""Events on their way to one transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

MAX_WAITING_CHARS = 32 * 2**20
"""Of events before one transport: two of the largest, and what comes between."""


class SlowClientError(Exception):
    """A client doesn't take its events; its transport is to be closed."""


class EventSink:
    """A bounded queue of events before one transport.

    Nothing is dropped: who makes text waits until the sink is `idle`, who answers requests until
    there is `room`, and a client that takes nothing for `timeout_s`, or still lets `max_events` or
    MAX_WAITING_CHARS pile up, is given up.
    """

    def __init__(
        self, send: Callable[[str], Awaitable[None]], *, max_events: int, timeout_s: float
    ) -> None:
        """`send` hands one event to the transport, and returns once that has room for more."""
        self._send = send
        self._timeout_s = timeout_s
        self._queue: asyncio.Queue[str] = asyncio.Queue(max_events)
        self._waiting_chars = 0
        self._overflowed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_idle: Callable[[], None] = lambda: None
        """Called whenever `idle` becomes true."""

    @property
    def idle(self) -> bool:
        """Whether everything put in has been handed to the transport."""
        return self._idle.is_set()

    async def drained(self) -> None:
        """Wait until `idle`, which `run` brings about."""
        await self._idle.wait()

    async def room(self) -> None:
        """Return once there is room for what may come of another request."""
        half_full = self._queue.qsize() * 2 > self._queue.maxsize
        if half_full or self._waiting_chars * 2 > MAX_WAITING_CHARS:
            await self.drained()

    def put(self, event: str) -> None:
        """Queue one event's JSON; never waits."""
        self._idle.clear()
        if self._queue.full() or self._waiting_chars > MAX_WAITING_CHARS:
            self._overflowed = True
            return
        self._waiting_chars += len(event)
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Hand events on until cancelled. Raises SlowClientError."""
        while True:
            event = await self._queue.get()
            self._waiting_chars -= len(event)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._send(event)
            except TimeoutError as error:
                raise SlowClientError(f"took no event for {self._timeout_s:g} s") from error
            if self._overflowed:
                raise SlowClientError("let too many events pile up")
            if self._queue.empty():
                self._idle.set()
                self.on_idle()
