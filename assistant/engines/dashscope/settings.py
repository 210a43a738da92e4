"""How DashScope is asked."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from assistant.engines.remote.settings import RemoteSettings

# What the engine says itself with every request.
_OURS = frozenset({"max_tokens", "incremental_output", "result_format"})


def _additional(parameters: dict[str, Any]) -> dict[str, Any]:
    if ours := _OURS & parameters.keys():
        raise ValueError(f"the engine itself sets {', '.join(sorted(ours))}")
    return parameters


class DashScopeSettings(RemoteSettings):
    """Tunables of the `dashscope` engine."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+")] = (
        "https://dashscope.aliyuncs.com/api/v1"
    )
    """The region's address; a key is good for one region."""
    api_key_env: Annotated[str, Field(min_length=1)] = "DASHSCOPE_API_KEY"
    """The environment variable that holds the key."""
    parameters: Annotated[dict[str, Any], AfterValidator(_additional)] = Field(default_factory=dict)
    """What comes to every request's parameters, such as `top_p`."""
