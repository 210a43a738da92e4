"""The models that a server lists. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What a server tells of a model."""

    id: str
    context_tokens: int | None
    """Where it tells that, as vLLM, SGLang and llama.cpp do."""


def listed(told: object) -> list[ListedModel]:
    """The models in the JSON that answers `GET /models`. Raises ValueError where it is no list."""
    match told:
        case {"data": [*entries]}:
            return [model for entry in entries for model in _models(entry)]
        case _:
            raise ValueError(f"it answers {told!r}")


def _models(entry: object) -> Iterator[ListedModel]:
    match entry:
        case {"id": str() as id_} if id_:
            yield ListedModel(id_, _context_tokens(entry))


def _context_tokens(entry: object) -> int | None:
    # True is an int, too, and one token no context.
    match entry:
        case {"max_model_len": int() as tokens} if tokens > 1:
            return tokens
        case {"meta": {"n_ctx": int() as tokens}} if tokens > 1:
            return tokens
        case _:
            return None
