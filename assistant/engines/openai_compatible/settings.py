"""Which servers answer, and how they are asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from assistant.engines.remote.settings import RemoteSettings
from assistant.settings import Several

# What the engine says itself with every request.
_OURS = frozenset({"model", "messages", "stream", "stream_options", "tools", "tool_choice"})


def _additional(body: dict[str, Any]) -> dict[str, Any]:
    if ours := _OURS & body.keys():
        raise ValueError(f"the engine itself sets {', '.join(sorted(ours))}")
    return body


Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class OpenAICompatibleSettings(RemoteSettings):
    """Tunables of the `openai_compatible` engine."""

    base_urls: Several[Url] = ()
    """Servers of the same model, such as http://127.0.0.1:8000/v1."""
    api_key_env: Annotated[str, Field(min_length=1)] = "ASSISTANT_MODEL_API_KEY"
    """The environment variable that holds their key; unset where they want none."""
    audio_as: Literal["input_audio", "input_audio_url", "audio_url"] = "input_audio"
    """How they take audio: OpenAI's part; the same with a data URL in it; vLLM's own part."""
    tools: bool = False
    """Whether the model calls functions; the servers don't tell."""
    context_tokens: Annotated[int | None, Field(ge=256)] = None
    """Most tokens of prompt and reply together; None: as the servers say."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """For the connection to a server."""
    extra_body: Annotated[dict[str, Any], AfterValidator(_additional)] = Field(default_factory=dict)
    """Fields that come to every request, such as `temperature`."""
