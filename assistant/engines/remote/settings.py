"""How servers are waited for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.settings import Settings


class RemoteSettings(Settings):
    """What can be set of every engine whose model is behind servers."""

    max_output_tokens: Annotated[int, Field(ge=1)] = 1024
    """Tokens of a reply whose options name no number."""
    first_token_timeout_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """From a request to its first token; then another server is asked, if there is one."""
    token_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """From one token to the next; then the reply has failed."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Requests that may follow one that failed before its first token."""
