"""Tells a worker that hangs from one that is busy: it is asked for a sign of life between steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOKS = 10
"""Looks at a worker in a timeout.

Time is counted by them, so that it doesn't pass while nobody looks: whatever held up this process,
such as a debugger or a lid that was closed, has held up the answer as well.
"""


class Watchdog:
    """Looks after a worker while it is busy; costs nothing while it isn't."""

    def __init__(
        self,
        timeout_s: float | None,
        *,
        busy: Callable[[], bool],
        ask: Callable[[], None],
        hung: Callable[[], None],
    ) -> None:
        """`busy`: whether it has anything to do. `ask`: have it give a sign. `hung`: called once,
        where there was none for `timeout_s`; None: that may take for ever."""
        self._interval_s = None if timeout_s is None else timeout_s / LOOKS
        self._busy = busy
        self._ask = ask
        self._hung = hung
        self._next: asyncio.TimerHandle | None = None
        self._in_vain = 0
        """Looks since it was asked; 0: it has answered."""

    def watch(self) -> None:
        """It has been given something to do."""
        if self._interval_s is not None and self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(self._interval_s, self._look)

    def heard(self) -> None:
        """It has given a sign of life."""
        self._in_vain = 0

    def stop(self) -> None:
        """It is no more."""
        self._interval_s = None
        if self._next:
            self._next.cancel()

    def _look(self) -> None:
        self._next = None
        if not self._busy():
            return
        if self._in_vain == LOOKS:
            self.stop()
            self._hung()
            return
        if not self._in_vain:
            self._ask()
        self._in_vain += 1
        self.watch()
