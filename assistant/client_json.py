"""JSON as clients write it, read within bounds. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from assistant.errors import ProtocolError

MAX_DEPTH = 100
"""Levels of objects and lists: schemas of tools have a dozen, orjson writes 254."""
MAX_VALUES = 16_384
"""Fields of all objects and elements of all lists: 128 functions with 128 for each. What is wrong
with so many is found in 40 ms, in which nobody else is served; characters cost next to nothing."""
_MARKS_PER_VALUE = 16
"""Before it is parsed, which costs the more the more values there are, these are told by the marks
that stand before each. In texts these mean nothing, and texts have some, too."""
_MARKS = (b",", b"[", b"{")
_CONTAINERS = (dict, list)


def parse_json(written: bytes, name: str, *, max_values: int = MAX_VALUES) -> Any:
    """What `written` holds, which clients know by `name`. Raises ProtocolError."""
    most_marks = max_values * _MARKS_PER_VALUE
    if len(written) > most_marks and sum(map(written.count, _MARKS)) > most_marks:
        raise _too_many(name, max_values)
    try:
        value = orjson.loads(written)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"{name} is not JSON: {error}.", code="invalid_json") from error
    level = [value] if isinstance(value, _CONTAINERS) else []
    values = 0
    for _ in range(MAX_DEPTH):
        if not level:
            return value
        values += sum(map(len, level))
        if values > max_values:
            raise _too_many(name, max_values)
        level = [
            part
            for node in level
            for part in (node.values() if isinstance(node, dict) else node)
            if isinstance(part, _CONTAINERS)
        ]
    if not level:
        return value
    raise ProtocolError(f"{name} is nested more than {MAX_DEPTH} levels deep.", code="invalid_json")


def _too_many(name: str, max_values: int) -> ProtocolError:
    return ProtocolError(
        f"{name} has more than {max_values} fields and elements in all.", code="invalid_json"
    )
