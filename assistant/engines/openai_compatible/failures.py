"""What went wrong with a request, and what to do about it. Pure.

ServerFailure is raised for whatever a server does but answer; its text goes to the client.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from enum import Enum, auto

import openai

from assistant.engines.engine import TokenCount
from assistant.engines.openai_compatible.wire import in_proportion
from assistant.errors import EngineError, PromptTooLongError

MAX_REASON_CHARS = 300
"""Of what a server says: some send a page, or the whole request."""

# As vLLM, SGLang, llama.cpp, DashScope and OpenAI put it, in their codes or their words.
_TOO_LONG = re.compile(
    r"context.?(length|size|window|limit)|range of input length"
    r"|(prompt|input|messages?|request)\b.{0,40}\b(is|are) too (long|large)"
    r"|maximum (input|prompt|allowed) ?(length|tokens)",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"(\d+)\s+(?:input |prompt |output )?tokens|requested (\d+)", re.IGNORECASE)


class Remedy(Enum):
    """What may help."""

    NONE = auto()
    """The request or the configuration is wrong: it would fail everywhere."""
    LATER = auto()
    """The server may do it soon; another may do it now."""
    ELSEWHERE = auto()
    """Another server may do it; this one has had its time."""


class ServerFailure(EngineError):
    """A server didn't answer, or not to the end."""

    def __init__(self, reason: str, remedy: Remedy, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        """For how long the server itself asks to be left alone."""


def failure_of(
    error: Exception, server: str, *, now_s: float, estimate: TokenCount, context_tokens: int
) -> ServerFailure | PromptTooLongError:
    """What an exception of the `openai` package means.

    `now_s`: since 1970; `estimate`: of the prompt; `context_tokens`: as the engine tells them.
    """
    if isinstance(error, openai.APIError) and _is_too_long(error):
        return _too_long(error, estimate, context_tokens)
    match error:
        case openai.APITimeoutError():
            return ServerFailure(f"{server} can't be reached in time.", Remedy.ELSEWHERE)
        case openai.APIStatusError():
            return _refusal(error, server, now_s)
        case openai.APIConnectionError():
            cause = _brief(str(error.__cause__ or "")) or type(error.__cause__).__name__
            return ServerFailure(f"The connection to {server} failed: {cause}", Remedy.LATER)
        case openai.APIError():
            # Sent in place of a token.
            return ServerFailure(f"{server} failed: {_brief(error.message)}", Remedy.LATER)
        case _:
            said = _brief(str(error))
            return ServerFailure(f"{server} sent what can't be read: {said}", Remedy.NONE)


def _is_too_long(error: openai.APIError) -> bool:
    status = error.status_code if isinstance(error, openai.APIStatusError) else 400
    told = f"{error.code} {error.type} {error.message}"
    return status == 413 or (status in (400, 422, 500) and bool(_TOO_LONG.search(told)))


def _too_long(
    error: openai.APIError, estimate: TokenCount, context_tokens: int
) -> PromptTooLongError:
    """What the prompt takes is the largest number of tokens that the server names.

    But more than the context in any case: so every shortening, done by these numbers, does shorten.
    """
    named = [int(one or other) for one, other in _TOKENS.findall(error.message)]
    taken = in_proportion(max(*named, estimate.total, context_tokens + 1, 0), like=estimate)
    return PromptTooLongError(
        f"The conversation is too long for the server: {_brief(error.message)}",
        text_tokens=taken.text,
        audio_tokens=taken.audio,
    )


def _refusal(error: openai.APIStatusError, server: str, now_s: float) -> ServerFailure:
    said = _brief(error.message)
    match error.status_code:
        case 401 | 403:
            return ServerFailure(f"{server} refuses the API key: {said}", Remedy.NONE)
        case 429 if error.code != "insufficient_quota":
            reason = f"{server} is at its rate limit: {said}"
        case 408 | 409 | 500 | 502 | 503 | 504 | 529:
            reason = f"{server} failed with status {error.status_code}: {said}"
        case status:
            return ServerFailure(f"{server} refuses with status {status}: {said}", Remedy.NONE)
    after_s = _retry_after_s(error.response.headers.get("retry-after", ""), now_s)
    return ServerFailure(reason, Remedy.LATER, retry_after_s=after_s)


def _retry_after_s(header: str, now_s: float) -> float | None:
    """A number of seconds, or the date until which to wait."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except ValueError:
        return None


def _brief(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MAX_REASON_CHARS else one_line[:MAX_REASON_CHARS] + " ..."
