"""Structured concurrency beyond what asyncio offers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def race(**contenders: Coroutine[Any, Any, None]) -> None:
    """Run the named coroutines until the first ends, then cancel the others.

    Returns when all have ended; failures are raised as an ExceptionGroup.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(task, name=name) for name, task in contenders.items()]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
