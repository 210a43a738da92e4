"""Structured concurrency beyond what asyncio offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup for one undertaking: what fails of it, or in the context, is raised as itself.

    Of failures that come together it is the first: each would have ended the whole alone.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first = _first(failures)
        # Its own cause remains.
        raise first from first.__cause__


async def race(**contenders: Coroutine[Any, Any, None]) -> None:
    """Run the named coroutines until the first ends, then cancel the others.

    Returns when all have ended; raises what `task_group` does.
    """
    async with task_group() as group:
        tasks = [group.create_task(task, name=name) for name, task in contenders.items()]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def beside(work: Callable[[], T]) -> T:
    """What `work` returns, which may block for ever: as on a pipe, a terminal or a dead server.

    It runs in a thread that nobody waits for, neither who is cancelled here nor, as would be with
    `asyncio.to_thread`, the program's end. Raises what it raises.
    """
    done: Future[T] = Future()
    # So that it can't be cancelled, and takes its result however late that comes.
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(result)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(done)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
