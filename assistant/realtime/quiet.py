"""How long nobody has said anything. Pure."""

from __future__ import annotations

from collections.abc import Callable


class QuietClock:
    """Runs from the end of the first reply on, and starts anew with whatever is said."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._since_ms: int | None = None

    def replied(self) -> None:
        """A reply has ended."""
        self._since_ms = self._now_ms()

    def heard(self) -> None:
        """The person has said something."""
        if self._since_ms is not None:
            self._since_ms = self._now_ms()

    def deadline_ms(self, timeout_ms: int) -> int | None:
        """When it will have been quiet for so long; None before the first reply."""
        return None if self._since_ms is None else self._since_ms + timeout_ms
