"""What clients write, as pydantic checks it, and how they are told what is wrong with it. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.errors import ProtocolError

MAX_DEPTH = 100
"""Levels of objects and lists: schemas of tools have a dozen, orjson writes 254."""


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
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def protocol_error(
    error: ValidationError, data: Any, *, event_id: str | None = None, prefix: str = ""
) -> ProtocolError:
    """The first of pydantic's complaints about `data`, in the Realtime API's words."""
    first = error.errors(include_url=False)[0]
    is_missing = first["type"] == "missing"
    path = ".".join([*([prefix] if prefix else []), *_path(first["loc"], data, is_missing)])
    match first["type"]:
        case "missing":
            code, text = "missing_required_parameter", f"Missing required parameter: '{path}'."
        case "extra_forbidden":
            code, text = "unknown_parameter", f"Unknown parameter: '{path}'."
        case _:
            code, text = "invalid_value", f"Invalid value for '{path}': {first['msg']}."
    return ProtocolError(text, code=code, param=path, event_id=event_id)


def check_length(text: str, max_chars: int, *, param: str) -> None:
    """Raise ProtocolError where `text`, found at `param`, has more characters than that."""
    if len(text) > max_chars:
        raise ProtocolError(
            f"Invalid '{param}': string too long. Expected a string with maximum length "
            f"{max_chars}, but got a string with length {len(text)} instead.",
            code="string_above_max_length",
            param=param,
        )


def _path(location: tuple[int | str, ...], data: Any, is_missing: bool) -> list[str]:
    """The client's own part of a location: pydantic puts the names of union members into it."""
    path = []
    for part in location:
        match data:
            case dict() if part in data:
                data = data[part]
            case list() if isinstance(part, int):
                data = data[part]
            case _:
                continue
        path.append(str(part))
    return [*path, str(location[-1])] if is_missing else path
