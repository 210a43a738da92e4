"""What servers do but answer, and what to do about it. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum, auto
from math import isfinite

from assistant.engines.engine import TokenCount
from assistant.engines.remote.estimate import in_proportion
from assistant.errors import EngineError, PromptTooLongError

MAX_REASON_CHARS = 300
"""Of what a server says: some send a page, or the whole request."""


class Remedy(Enum):
    """What may help."""

    NONE = auto()
    """The request or the configuration is wrong: it would fail everywhere."""
    LATER = auto()
    """The server may do it soon; another may do it now."""
    ELSEWHERE = auto()
    """Another server may do it; this one has had its time."""


class ServerFailure(EngineError):
    """A server didn't answer, or not to the end. The text goes to the client."""

    def __init__(self, reason: str, remedy: Remedy, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        """For how long the server itself asks to be left alone."""


def too_long(reason: str, taken: int, estimate: TokenCount, context_tokens: int) -> EngineError:
    """The prompt is too long for the server, which says it takes `taken` tokens (0: nothing).

    As much as the context is taken in any case: so every shortening that is done by these numbers
    does shorten.
    """
    tokens = in_proportion(max(taken, estimate.total, context_tokens + 1), like=estimate)
    return PromptTooLongError(
        f"The conversation is too long for the server: {brief(reason)}",
        text_tokens=tokens.text,
        audio_tokens=tokens.audio,
    )


def retry_after_s(header: str, now_s: float) -> float | None:
    """A `Retry-After`: a number of seconds, or the date until which to wait.

    `now_s`: since 1970. None where it is neither.
    """
    try:
        after_s = float(header)
    except ValueError:
        try:
            after_s = parsedate_to_datetime(header).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return max(0.0, after_s) if isfinite(after_s) else None


def sentence(text: str) -> str:
    """The same with the full stop that servers leave out."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def brief(text: str) -> str:
    """One line of it, not too long."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MAX_REASON_CHARS else one_line[:MAX_REASON_CHARS] + " ..."
