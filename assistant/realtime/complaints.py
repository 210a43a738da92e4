"""What is wrong with something that a client wrote, in the API's own words. Pure.

https://platform.openai.com/docs/guides/error-codes has the form; the wording of each is as the
hosted API answers, since programs and people search for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from assistant.errors import ProtocolError

MAX_SHOWN_CHARS = 100
"""Of a value that is shown to who sent it."""
MAX_READ = 100
"""Complaints about one thing: those about the first place in it come first, for no union has more
members."""

# What pydantic expected where it found something of another type.
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
_TYPES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def protocol_error(
    error: ValidationError, data: Any, *, event_id: str | None = None, prefix: str = ""
) -> ProtocolError:
    """The first of pydantic's complaints about `data`, which the client has at `prefix`."""
    complaints = error.errors(include_url=False)[:MAX_READ]
    first = _path(complaints[0], data)
    # Of a union, each member has complained; who got furthest is the one that was meant.
    of_first = [(_path(each, data), each) for each in complaints]
    of_first = [(path, each) for path, each in of_first if path[: len(first)] == first]
    path = max((path for path, _ in of_first), key=len)
    param = _written(prefix, path)
    code, text = _words(param, [each for its, each in of_first if its == path])
    return ProtocolError(text, code=code, param=param or None, event_id=event_id)


def check_length(text: str, max_chars: int, *, param: str) -> None:
    """Raise ProtocolError where `text`, found at `param`, has more characters than that."""
    if len(text) > max_chars:
        raise ProtocolError(
            _too_long(param, max_chars, len(text)), code="string_above_max_length", param=param
        )


def check_total(chars: int, max_chars: int, *, param: str) -> None:
    """Raise ProtocolError where the texts of the array at `param`, which have `chars` characters
    together, have more than that."""
    if chars > max_chars:
        raise ProtocolError(
            f"Invalid '{param}': too much text. Expected at most {max_chars} characters in the "
            f"whole array, but got {chars} instead.",
            code="string_above_max_length",
            param=param,
        )


def unsupported_value(value: Any, supported: Sequence[str]) -> str:
    """`value` is none of those that are known here."""
    return f"Invalid value: {_shown(value)}. Supported values are: {_listed(supported)}."


def _words(param: str, complaints: list[ErrorDetails]) -> tuple[str, str]:
    """The code and the text for what is complained of at one place."""
    unlike = [each for each in complaints if not _is_of_type(each)]
    if not unlike:
        return _wrong_type(param, complaints)
    complaint = unlike[0]
    given, context = complaint["input"], complaint.get("ctx", {})
    match complaint["type"]:
        case "missing" | "union_tag_not_found":
            return "missing_required_parameter", f"Missing required parameter: '{param}'."
        case "extra_forbidden":
            return "unknown_parameter", f"Unknown parameter: '{param}'."
        case "greater_than_equal":
            return _out_of_range(param, given, "min", context["ge"])
        case "less_than_equal":
            return _out_of_range(param, given, "max", context["le"])
        case "string_too_long":
            return "string_above_max_length", _too_long(param, context["max_length"], len(given))
        case "string_too_short":
            return "empty_string", (
                f"Invalid '{param}': empty string. Expected a string with minimum length "
                f"{context['min_length']}, but got an empty string instead."
            )
        case "too_short":
            return "empty_array", (
                f"Invalid '{param}': empty array. Expected an array with minimum length "
                f"{context['min_length']}, but got an empty array instead."
            )
        case "too_long" if isinstance(given, list):
            return "array_above_max_length", (
                f"Invalid '{param}': array too long. Expected an array with maximum length "
                f"{context['max_length']}, but got an array with length {len(given)} instead."
            )
        case "too_long" if isinstance(given, dict):
            return "object_above_max_properties", (
                f"Invalid '{param}': too many properties. Expected an object with at most "
                f"{context['max_length']} properties, but got an object with {len(given)} "
                "properties instead."
            )
        case "unsupported_parameter" as code:
            return code, f"Unsupported parameter: '{param}' is not supported with this model."
        case _:
            return "invalid_value", f"Invalid value for '{param}': {complaint['msg']}."


def _is_of_type(complaint: ErrorDetails) -> bool:
    return complaint["type"] in _EXPECTED or complaint["type"] in (
        "literal_error",
        "union_tag_invalid",
    )


def _wrong_type(param: str, complaints: list[ErrorDetails]) -> tuple[str, str]:
    """What stands there is none of the values, or of the types, that may."""
    given = _given(complaints[0])
    values: list[str] = []
    types: list[str] = []
    for each in complaints:
        match each["type"]:
            case "literal_error":
                values += each["ctx"]["expected"].replace(" or ", ", ").split(", ")
            case "union_tag_invalid":
                values += each["ctx"]["expected_tags"].split(", ")
            case kind:
                types.append(_EXPECTED[kind])
    alike = [value for value in values if value.startswith("'") == isinstance(given, str)]
    if alike and type(given) in (str, int) and not {"an integer", "a number"} & {*types}:
        return "invalid_value", (
            f"Invalid value: {_shown(given)}. Supported values are: {_joined(alike, 'and')}."
        )
    expected = _joined([*types, *values], "or")
    place = f" for '{param}'" if param else ""
    several = "one of " if len(types) + len(values) > 1 else ""
    return "invalid_type", (
        f"Invalid type{place}: expected {several}{expected}, but got {_TYPES[type(given)]} instead."
    )


def _given(complaint: ErrorDetails) -> Any:
    given = complaint["input"]
    return given[_tag(complaint)] if complaint["type"] == "union_tag_invalid" else given


def _out_of_range(param: str, given: Any, side: str, bound: Any) -> tuple[str, str]:
    kind = "integer" if isinstance(bound, int) else "decimal"
    place, relation = {"min": ("below minimum", ">="), "max": ("above maximum", "<=")}[side]
    return f"{kind}_{place.split()[0]}_{side}_value", (
        f"Invalid '{param}': {kind} {place} value. Expected a value {relation} {bound}, but got "
        f"{given} instead."
    )


def _too_long(param: str, max_chars: int, chars: int) -> str:
    return (
        f"Invalid '{param}': string too long. Expected a string with maximum length {max_chars}, "
        f"but got a string with length {chars} instead."
    )


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else orjson.dumps(value).decode()
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."


def _listed(values: Sequence[str]) -> str:
    return _joined([*map(repr, values)], "and")


def _joined(words: Sequence[str], conjunction: str) -> str:
    match words:
        case [one]:
            return one
        case [one, other]:
            return f"{one} {conjunction} {other}"
        case [*others, last]:
            return f"{', '.join(others)}, {conjunction} {last}"
        case _:
            raise ValueError("nothing to list")


def _tag(complaint: ErrorDetails) -> str:
    """The field that tells the members of a union apart."""
    return str(complaint["ctx"]["discriminator"]).strip("'")


def _path(complaint: ErrorDetails, data: Any) -> list[int | str]:
    """Where in `data` it is: pydantic puts the names of union members into its locations."""
    location = complaint["loc"]
    path: list[int | str] = []
    for part in location:
        match data:
            case dict() if part in data:
                data = data[part]
            case list() if isinstance(part, int):
                data = data[part]
            case _:
                continue
        path.append(part)
    match complaint["type"]:
        case "missing":
            path.append(location[-1])
        case "union_tag_invalid" | "union_tag_not_found":
            path.append(_tag(complaint))
    return path


def _written(prefix: str, path: list[int | str]) -> str:
    """As the API writes paths: `session.tools[3].name`."""
    written = prefix
    for part in path:
        written += f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}"
    return written.removeprefix(".")
