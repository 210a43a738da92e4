"""Test vocabulary: an event loop whose clock jumps to the next deadline instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _ImpatientSelector(selectors.DefaultSelector):
    """Never waits: what the loop would have slept is added to its clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            # Without a deadline and without anything ready, the loop would wait for ever.
            assert timeout is not None, "everything waits, and nothing is due"
            self.now_s += max(timeout, 0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs hours in a moment; only for code that waits for nothing outside the loop."""

    def __init__(self) -> None:
        self._virtual = _ImpatientSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s

    def stall(self, seconds: float) -> None:
        """What runs now keeps everything else waiting for so long."""
        self._virtual.now_s += seconds


class LeapingLoop(asyncio.SelectorEventLoop):
    """Keeps real time, but for the leaps that it is told to make."""

    def __init__(self) -> None:
        self._leapt_s = 0.0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._leapt_s

    def leap(self, seconds: float) -> None:
        """So much time has passed at once."""
        self._leapt_s += seconds


def run(
    main: Coroutine[Any, Any, None],
    loop: Callable[[], asyncio.AbstractEventLoop] = VirtualTimeLoop,
) -> None:
    """Run a test's coroutine in virtual time, or in that of another loop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)
