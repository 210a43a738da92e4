"""What came of each item, kept in a JSONL file as it comes, so that a run can be taken up again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.errors import ConfigError
from assistant.evaluation.examinee import Examinee
from assistant.evaluation.manifest import Item

# Of every line, as this writes it.
_BEGINNING = b'{"line":'


def default_results(manifest: Path) -> Path:
    """Where the results of a manifest are kept: beside it, and not with those of another."""
    return manifest.with_name(f"{manifest.name.removesuffix('.jsonl')}.results.jsonl")


class Result(BaseModel):
    """One line of the file: what was asked of whom, and the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: int
    audio: str
    prompt: str
    references: tuple[str, ...]
    source: str
    control_tokens: bool = False
    """Whether what spells a control token in the prompt was that token."""
    model: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """What its answers depend on besides."""
    answer: str
    complete: bool
    """False where the answer was cut off at the length limit."""
    input_tokens: int
    output_tokens: int
    total_ms: float


class ResultsFile:
    """The file, to be appended to."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file is another kind of file."""
        self._path = path
        self._answers = {_key(result): result for result in _read(path)}

    def __enter__(self) -> Self:
        """Raises OSError."""
        # Unbuffered, so that what couldn't be written isn't tried again.
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        """Keep it, whatever comes next. Raises OSError; then the file ends as it did before."""
        left = result.model_dump_json().encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def answer_to(self, item: Item, examinee: Examinee) -> Result | None:
        """What `examinee` said to `item` as it stands in the manifest now."""
        whom = examinee.model, _as_text(examinee.settings)
        what = str(item.audio), item.prompt, item.control_tokens, item.references
        known = self._answers.get((*whom, *what))
        return known and known.model_copy(update={"line": item.line, "source": item.source})


def _key(result: Result) -> tuple[object, ...]:
    whom = result.model, _as_text(result.settings)
    what = result.audio, result.prompt, result.control_tokens, result.references
    return (*whom, *what)


def _as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _read(path: Path) -> list[Result]:
    if not path.exists():
        return []
    # As bytes: the end may be torn in the midst of a character.
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    try:
        results = [Result.model_validate_json(line) for line in whole.splitlines()]
    except ValidationError as error:
        raise _another_kind(path) from error
    if torn:
        if not torn.startswith(_BEGINNING):
            raise _another_kind(path)
        # Written when the machine went down; that item is asked again.
        path.write_bytes(whole + newline)
    return results


def _another_kind(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} doesn't hold the results of an evaluation; name another file by --results."
    )
