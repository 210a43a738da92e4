"""How often something may be asked for. Pure."""

from __future__ import annotations

import math

from assistant.errors import TooManyRequestsError


class RateLimit:
    """So many in a minute, at once or spread out: a token bucket.

    Times are in s of a monotonic clock.
    """

    def __init__(self, per_minute: int) -> None:
        self._capacity = per_minute
        self._left = float(per_minute)
        self._at_s = -math.inf

    def take(self, now_s: float) -> None:
        """Count one. Raises TooManyRequestsError where there are too many, and counts none."""
        refilled = self._left + (now_s - self._at_s) * self._capacity / 60
        self._left, self._at_s = min(self._capacity, refilled), now_s
        if self._left < 1:
            raise TooManyRequestsError(
                f"At most {self._capacity} requests a minute are taken.",
                retry_after_s=(1 - self._left) * 60 / self._capacity,
            )
        self._left -= 1
