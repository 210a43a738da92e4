"""When something was last said. Pure."""

from __future__ import annotations

from collections.abc import Callable

EXPECTED_MS = 500
"""Clients that answer turns by themselves ask for the reply right after."""


class QuietClock:
    """Knows how long it has been quiet, and whether that is about to end."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._since_ms: int | None = None
        self.reply_expected_until_ms = 0
        """Until when the client may yet ask for a reply to the turn that was taken last."""

    def replied(self) -> None:
        """A reply has ended."""
        self._since_ms = self._now_ms()
        self.reply_expected_until_ms = 0

    def heard(self, *, is_answered: bool) -> None:
        """The person has said something, which is answered unless the client sees to that."""
        now_ms = self._now_ms()
        if self._since_ms is not None:
            self._since_ms = now_ms
        self.reply_expected_until_ms = 0 if is_answered else now_ms + EXPECTED_MS

    def deadline_ms(self, timeout_ms: int) -> int | None:
        """When it will have been quiet for so long; None before the first reply."""
        return None if self._since_ms is None else self._since_ms + timeout_ms
