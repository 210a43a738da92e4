"""What clients write is read within bounds, and those cost little to keep."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from assistant.client_json import MAX_DEPTH, MAX_VALUES, parse_json
from assistant.errors import ProtocolError

WIDE = {
    "a list": lambda n: [0] * n,
    "an object": lambda n: {str(number): "" for number in range(n)},
    "lists in a list": lambda n: [[]] * n,
    "lists in objects": lambda n: [{"a": [0, 0]}] * (n // 4) + [0] * (n % 4),
}


@pytest.mark.parametrize("shape", WIDE)
def test_it_may_be_so_wide_and_no_wider(shape: str) -> None:
    value = WIDE[shape](MAX_VALUES)
    assert parse_json(orjson.dumps(value), "It") == value
    with pytest.raises(ProtocolError, match=r"^It has more than 16384 fields and elements"):
        parse_json(orjson.dumps(WIDE[shape](MAX_VALUES + 1)), "It")


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
def test_it_may_be_so_deep_and_no_deeper(levels: int) -> None:
    written = b"[" * levels + b"]" * levels
    if levels <= MAX_DEPTH:
        assert orjson.dumps(parse_json(written, "It")) == written
        return
    with pytest.raises(ProtocolError, match=r"^It is nested more than 100 levels deep"):
        parse_json(written, "It")


@pytest.mark.parametrize("part", [b"[],", b'{"a":{"b":{}}},', b"0,"])
def test_what_is_far_too_wide_is_not_even_parsed(part: bytes) -> None:
    unfinished = b"[" + part * (16 * MAX_VALUES)
    with pytest.raises(ProtocolError, match="fields and elements"):
        parse_json(unfinished, "It")
    with pytest.raises(ProtocolError, match=r"^It is not JSON"):
        parse_json(b"[" + part * 5, "It")


def test_what_a_text_looks_like_is_not_counted() -> None:
    value: dict[str, Any] = {"text": "[1,2],{" * 30_000, "audio": "A" * 10**6}
    assert parse_json(orjson.dumps(value), "It") == value


@pytest.mark.parametrize("value", [None, True, 5, "text", [], {}])
def test_it_may_be_any_value(value: Any) -> None:
    assert parse_json(orjson.dumps(value), "It") == value
