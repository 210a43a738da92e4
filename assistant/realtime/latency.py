"""Where the time of a reply went. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Speculation = Literal["hit", "miss", "none"]
"""Whether the first token was there when the turn was judged over; none: it was not tried."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """When a spoken turn ended, in ms of input audio."""

    speech_end_ms: int
    """The person had said the last word."""
    turn_end_ms: int
    """The turn was judged over: this is what the person has waited until then."""


class Latency:
    """Times a reply, from when it was wanted."""

    PREFIX = "latency."
    """Of the keys in the metadata that are ours."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        turn: TurnEnd | None = None,
        speculation: Speculation = "none",
    ) -> None:
        """`now_ms`: a clock; `turn`: what is answered, where it was a spoken turn's end."""
        self._now_ms = now_ms
        self._turn = turn
        self._speculation = speculation
        self._wanted_ms = now_ms()
        self._first_token_ms: int | None = None

    def token_shown(self) -> None:
        """More of the reply goes out."""
        if self._first_token_ms is None:
            self._first_token_ms = self._now_ms() - self._wanted_ms

    def metadata(self) -> dict[str, str]:
        """For `response.done`: in ms, as the API has room for strings alone."""
        turn = self._turn
        values: dict[str, int | str | None] = {
            "speech_end_ms": turn.speech_end_ms if turn else None,
            "turn_end_ms": turn.turn_end_ms if turn else None,
            "first_token_ms": self._first_token_ms,
            "total_ms": self._now_ms() - self._wanted_ms,
            "speculation": self._speculation,
        }
        return {
            self.PREFIX + name: str(value) for name, value in values.items() if value is not None
        }
