"""Each golden transcript, event by event; `tests/golden.py` tells how they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import replayed, transcripts


@pytest.mark.parametrize("path", transcripts(), ids=lambda path: path.stem)
def test_it_goes_as_it_is_written_down(path: Path) -> None:
    written = path.read_text()
    assert replayed(written) == written
