"""What the exceptions of the `openai` package mean. Pure."""

from __future__ import annotations

import re

import openai

from assistant.engines.engine import TokenCount
from assistant.engines.remote.failures import (
    Remedy,
    ServerFailure,
    brief,
    retry_after_s,
    too_long,
)
from assistant.errors import EngineError

# As vLLM, SGLang, llama.cpp, DashScope and OpenAI put it, in their codes or their words.
_TOO_LONG = re.compile(
    r"context.?(length|size|window|limit)|range of input length"
    r"|(prompt|input|messages?|request)\b.{0,40}\b(is|are) too (long|large)"
    r"|maximum (input|prompt|allowed) ?(length|tokens)",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"(\d+)\s+(?:input |prompt |output )?tokens|requested (\d+)", re.IGNORECASE)


def failure_of(
    error: Exception, server: str, *, now_s: float, estimate: TokenCount, context_tokens: int
) -> EngineError:
    """What an exception of the `openai` package means: a ServerFailure or PromptTooLongError.

    `now_s`: since 1970; `estimate`: of the prompt; `context_tokens`: as the engine tells them.
    """
    if isinstance(error, openai.APIError) and _is_too_long(error):
        named = [int(one or other) for one, other in _TOKENS.findall(error.message)]
        return too_long(error.message, max(named, default=0), estimate, context_tokens)
    match error:
        case openai.APITimeoutError():
            return ServerFailure(f"{server} can't be reached in time.", Remedy.ELSEWHERE)
        case openai.APIStatusError():
            return _refusal(error, server, now_s)
        case openai.APIConnectionError():
            cause = brief(str(error.__cause__ or "")) or type(error.__cause__).__name__
            return ServerFailure(f"The connection to {server} failed: {cause}", Remedy.LATER)
        case openai.APIError():
            # Sent in place of a token.
            return ServerFailure(f"{server} failed: {brief(error.message)}", Remedy.LATER)
        case _:
            said = brief(str(error))
            return ServerFailure(f"{server} sent what can't be read: {said}", Remedy.ELSEWHERE)


def _is_too_long(error: openai.APIError) -> bool:
    status = error.status_code if isinstance(error, openai.APIStatusError) else 400
    told = f"{error.code} {error.type} {error.message}"
    return status == 413 or (status in (400, 422, 500) and bool(_TOO_LONG.search(told)))


def _refusal(error: openai.APIStatusError, server: str, now_s: float) -> ServerFailure:
    # The package puts the status before what the server says.
    said = brief(re.sub(r"^Error code: \d+( - )?", "", error.message)) or "it doesn't say why"
    match error.status_code:
        case 401 | 403:
            return ServerFailure(f"{server} refuses the API key: {said}", Remedy.ELSEWHERE)
        case 404:
            return ServerFailure(f"{server} refuses with status 404: {said}", Remedy.ELSEWHERE)
        case 429 if error.code != "insufficient_quota":
            reason = f"{server} is at its rate limit: {said}"
        case 408 | 409 | 500 | 502 | 503 | 504 | 529:
            reason = f"{server} failed with status {error.status_code}: {said}"
        case status:
            return ServerFailure(f"{server} refuses with status {status}: {said}", Remedy.NONE)
    after_s = retry_after_s(error.response.headers.get("retry-after", ""), now_s)
    return ServerFailure(reason, Remedy.LATER, retry_after_s=after_s)
