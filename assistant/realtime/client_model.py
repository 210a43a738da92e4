"""What clients write, as pydantic checks it. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

MAX_DEPTH = 100
"""Levels of objects and lists: schemas of tools have a dozen, orjson writes 254."""
_CONTAINERS = (dict, list)


class ClientModel(BaseModel):
    """Something that a client writes: a string is no number, and 1.0 no integer.

    Unknown fields are refused as the API refuses them: a misspelt setting that is silently ignored
    costs a day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def is_too_deep(data: dict[str, Any] | list[Any]) -> bool:
    """Whether there are more than MAX_DEPTH levels of objects and lists in `data`."""
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for node in level
            for part in (node.values() if isinstance(node, dict) else node)
            if isinstance(part, _CONTAINERS)
        ]
        if not level:
            return False
    return True
