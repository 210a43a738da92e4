"""Test vocabulary: the protocol as the OpenAI SDK understands it."""

from __future__ import annotations

from copy import deepcopy
from itertools import count
from typing import Annotated, Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import Field, TypeAdapter

from assistant.realtime.effects import Effect, Send

# The SDK's own adapter guesses among all members; with the discriminator a wrong field is named.
_SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[RealtimeServerEvent, Field(discriminator="type")]
)


def valid(event: dict[str, Any]) -> dict[str, Any]:
    """The event, after the SDK's types have accepted it; but for 16 kHz, which is ours."""
    seen = deepcopy(event)
    input_ = seen.get("session", {}).get("audio", {}).get("input", {})
    if input_.get("format") == {"type": "audio/pcm", "rate": 16_000}:
        input_["format"]["rate"] = 24_000
    _SERVER_EVENT.validate_python(seen)
    assert event["event_id"]
    return event


def counted_ids() -> Any:
    """Ids that a golden transcript can name: item_1, resp_2, ..."""
    numbers: dict[str, count[int]] = {}
    return lambda prefix: f"{prefix}_{next(numbers.setdefault(prefix, count(1)))}"


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    """The server events among the effects, validated."""
    return [valid(effect.event) for effect in effects if isinstance(effect, Send)]


def types(effects: list[Effect]) -> list[str]:
    """All effects in order: server events by their type, others by their class."""
    return [
        valid(effect.event)["type"] if isinstance(effect, Send) else type(effect).__name__
        for effect in effects
    ]
