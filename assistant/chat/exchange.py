"""What an API's words for a request and its reply must be able to say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from assistant.chat.requests import ChatRequest
from assistant.engines.engine import ReplyEvent


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request isn't answered."""

    status: int
    code: str
    """OpenAI's, where it has one."""
    message: str
    param: str | None = None
    """The path of the field at fault."""


class Exchange(Protocol):
    """One request and its reply in the words of an API. Pure."""

    def parse(self, body: Any) -> ChatRequest:
        """The request in a body of JSON. Raises ProtocolError that names what is wrong."""

    def opening(self) -> bytes:
        """The stream's beginning."""

    def take(self, event: ReplyEvent) -> bytes:
        """What the stream says of the reply's next event."""

    def closing(self) -> bytes:
        """The stream's end, after the reply's."""

    def whole(self) -> dict[str, Any]:
        """The reply at once, after its end."""

    def failed(self, failure: Failure) -> dict[str, Any]:
        """What is said in place of a reply."""

    def broken_off(self, failure: Failure) -> bytes:
        """The stream's end, where the reply came to none."""
