"""What a reply has to begin with, where the client demands a call. Pure."""

from __future__ import annotations

Openings = tuple[tuple[int, ...], ...]
"""Token ids that a reply may begin with, of which it takes one; none: it begins as it likes."""


class Opening:
    """Leads a reply through one of its openings; where they part, the model chooses."""

    def __init__(self, openings: Openings = ()) -> None:
        self._left = openings
        self._taken = 0
        self.ways = self._ways()
        """The tokens that may be next; none: the opening is over, and any may."""

    def take(self, token: int) -> None:
        """The next token is one of those."""
        if self.ways:
            at = self._taken
            self._left = tuple(left for left in self._left if left[at : at + 1] == (token,))
            self._taken += 1
            self.ways = self._ways()

    def _ways(self) -> list[int]:
        at = self._taken
        return sorted({opening[at] for opening in self._left if len(opening) > at})
