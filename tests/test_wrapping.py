"""Text into lines, whole and as it grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from assistant.wrapping import wrapped


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two ", "three"]),
        ("one two  ", ["one two  "]),
        ("one\n\ntwo\n", ["one\n", "\n", "two\n", ""]),
        ("a incomprehensible b", ["a ", "incompre", "hensible ", "b"]),
        ("你好世界再见", ["你好世界", "再见"]),
        ("ok 你好世界再见", ["ok ", "你好世界", "再见"]),
    ],
)
def test_lines_of_eight_cells(text: str, lines: list[str]) -> None:
    assert wrapped(text, 8) == lines


texts = st.text(st.sampled_from("ab  \n你é👍"), max_size=60)


@given(texts, texts, st.integers(2, 12))
def test_lines_fit_are_the_text_and_stay_when_it_grows(text: str, more: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join(lines) == text
    assert all(cell_len(line.rstrip(" \n")) <= width for line in lines)
    settled = lines[:-1]
    assert wrapped(text + more, width)[: len(settled)] == settled
    # Nor does it matter that what was settled isn't there any more.
    assert wrapped(lines[-1] + more, width) == wrapped(text + more, width)[len(settled) :]
