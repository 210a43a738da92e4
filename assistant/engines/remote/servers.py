"""The servers of one model, and which of them a conversation asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from assistant.engines.remote.failures import ServerFailure

C = TypeVar("C")

FIRST_REST_S = 0.5
MAX_REST_S = 5.0
"""A server that fails is left alone for 0.5 s, and for twice as long each time it fails again."""


@dataclass(eq=False, slots=True)
class Server(Generic[C]):
    """One server, and what is known of its state."""

    name: str
    """Host and port, for people."""
    client: C
    """What it is asked by."""
    conversations: int = 0
    """That ask here, since what the server has computed for them is here."""
    trouble: str = ""
    """Why it is left alone until `_ready_s`."""
    _ready_s: float = 0.0
    _failures: int = 0
    """In a row."""

    def wait_s(self, now_s: float) -> float:
        """How long it is still to be left alone."""
        return max(0.0, self._ready_s - now_s)

    def failed(self, failure: ServerFailure, now_s: float) -> None:
        """Leave it alone for as long as it asks, or else for a while."""
        rest_s = min(FIRST_REST_S * 2**self._failures, MAX_REST_S)
        if failure.retry_after_s is not None:
            rest_s = failure.retry_after_s
        self._failures += 1
        self._ready_s = max(self._ready_s, now_s + rest_s)
        self.trouble = str(failure)

    def answered(self) -> None:
        """It is well."""
        self._failures = 0


class Seat(Generic[C]):
    """One conversation's place at a server. It stays, unless the server fails."""

    def __init__(self, servers: list[Server[C]]) -> None:
        self._servers = servers
        self._server: Server[C] | None = None

    def choose(self, now_s: float) -> Server[C]:
        """The server to ask: one that need not be left alone, if possible that of last time.

        Of others, the one with the fewest conversations.
        """

        def burden(server: Server[C]) -> tuple[float, bool, int]:
            return server.wait_s(now_s), server is not self._server, server.conversations

        best = min(self._servers, key=burden)
        if best is not self._server:
            self.leave()
            best.conversations += 1
            self._server = best
        return best

    def leave(self) -> None:
        """The conversation asks no more. Idempotent."""
        if self._server is not None:
            self._server.conversations -= 1
            self._server = None


def host_of(url: str) -> str:
    """Host and port, without the password that a URL may hold."""
    place = urlsplit(url)
    return f"{place.hostname}:{place.port}" if place.port else str(place.hostname)
