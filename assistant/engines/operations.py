"""What runs for one conversation on the event loop: one main operation, and others beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from assistant.engines.engine import ReplyEvent
from assistant.errors import EngineError

T = TypeVar("T")


class Operations:
    """The operations of one session; see `engine.py` for who gives way to whom."""

    def __init__(self, name: str) -> None:
        """`name`: of the tasks, for those who look at them."""
        self._name = name
        self._main: asyncio.Task[Any] | None = None
        self._side: set[asyncio.Task[Any]] = set()
        self._taking_over = asyncio.Lock()
        self._closed = False

    async def begin(
        self, work: Callable[[], Coroutine[Any, Any, T]], *, side: bool = False
    ) -> asyncio.Task[T]:
        """Start `work`: beside what runs, or as the main operation once the last is cancelled.

        Raises EngineError where the session is closed.
        """
        if side:
            task = self._task(work)
            self._side.add(task)
            task.add_done_callback(self._side.discard)
            return task
        async with self._taking_over:
            if self._main is not None and not self._main.done():
                self._main.cancel()
                await asyncio.wait([self._main])
            self._main = task = self._task(work)
            return task

    async def close(self) -> None:
        """Cancel what runs; nothing can begin any more. Idempotent."""
        self._closed = True
        running = [task for task in (self._main, *self._side) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        if self._closed:
            raise EngineError("The session is closed.")
        return asyncio.create_task(work(), name=self._name)


class QueuedReply:
    """A Reply whose work is an operation, which starts with the iteration."""

    def __init__(
        self,
        operations: Operations,
        work: Callable[[QueuedReply], Coroutine[Any, Any, None]],
        *,
        committed: bool,
        side: bool,
    ) -> None:
        """`work` is given this reply, and puts its events into it."""
        self.committed = asyncio.Event()
        """Set once the turn is real."""
        if committed:
            self.committed.set()
        self._operations = operations
        self._work = work
        self._side = side
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._events: asyncio.Queue[ReplyEvent | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[ReplyEvent]:
        if self._cancelled:
            return
        task = await self._operations.begin(lambda: self._work(self), side=self._side)
        self._task = task
        task.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            while not self._cancelled and (event := await self._events.get()) is not None:
                if not self._cancelled:
                    yield event
            if not self._cancelled and not task.cancelled() and (error := task.exception()):
                raise error
        finally:
            await self.cancel()

    def put(self, event: ReplyEvent) -> None:
        """Called by the work: the next event."""
        self._events.put_nowait(event)

    def commit(self) -> None:
        self.committed.set()

    async def cancel(self) -> None:
        self._cancelled = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
