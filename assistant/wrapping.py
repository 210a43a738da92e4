"""Text into lines of a terminal, as it comes. Pure."""

from __future__ import annotations

import re

from rich.cells import cell_len

# A word with the blanks and the end of line behind it.
_WORD = re.compile(r"[^ \n]+ *\n?| +\n?|\n")


def wrapped(text: str, width: int) -> list[str]:
    """`text` cut into lines of at most `width` cells, blanks at their ends not counted.

    Joined, the lines are `text`. However it goes on, all lines but the last stay as they are: a
    text that is still growing can be printed up to there. Words that are longer than a line, and
    scripts without blanks, are cut where the line is full.
    """
    lines, line, used = [], "", 0
    for word in _WORD.findall(text):
        cells = cell_len(word.rstrip(" \n"))
        if line and used + cells > width:
            lines.append(line)
            line, used = "", 0
        for character in word:
            cells = 0 if character == "\n" else cell_len(character)
            if character not in " \n" and used + cells > width:
                lines.append(line)
                line, used = "", 0
            line += character
            used += cells
        if word.endswith("\n"):
            lines.append(line)
            line, used = "", 0
    return [*lines, line]
