"""The pages of a pool: who has which. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assistant.errors import EngineError


class Pages:
    """Equal pages, each free or held by one slot or several.

    All are alike, so that there is no such thing as a gap that is too small.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(reversed(range(count)))
        self._holders = [0] * count
        self.reclaim: Callable[[], None] = lambda: None
        """Called where all are held: to let go of one that is held for later only."""

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """One for the caller alone. Raises EngineError where all are held, and none is let go."""
        if not self._free:
            self.reclaim()
        if not self._free:
            raise EngineError(
                "The memory for conversations is full, and all of them are being answered just "
                "now. Try again in a moment."
            )
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def share(self, pages: Sequence[int]) -> None:
        """Hold these too. They are not to be written to until `is_shared` says otherwise."""
        for page in pages:
            self._holders[page] += 1

    def is_shared(self, page: int) -> bool:
        """Whether several hold it."""
        return self._holders[page] > 1

    def let_go(self, pages: Sequence[int]) -> None:
        """Hold these no longer."""
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)
