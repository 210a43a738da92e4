"""Structured concurrency beyond what asyncio offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


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


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
