"""What a reply has to begin with, where the client demands a call. Pure."""

from __future__ import annotations

Openings = tuple[tuple[int, ...], ...]
"""Token ids that a reply may begin with, of which it takes one; none: it begins as it likes."""


class Opening:
    """Leads a reply through one of its openings; where they part, the model chooses."""

    def __init__(self, openings: Openings = ()) -> None:
        self._left = openings
        self._taken = 0

    @property
    def ways(self) -> list[int]:
        """The tokens that may be next; none: the opening is over, and any may."""
        if not self._left:
            return []
        at = self._taken
        return sorted({opening[at] for opening in self._left if len(opening) > at})

    def take(self, token: int) -> None:
        """The next token is one of those."""
        if self._left:
            at = self._taken
            self._left = tuple(way for way in self._left if way[at : at + 1] == (token,))
            self._taken += 1
