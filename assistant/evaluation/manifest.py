"""What to evaluate: a JSONL file with an audio file, a prompt and the right answer in each line.

    {"audio": "1089-134686-0000.flac", "reference": "he hoped there would be stew for dinner"}

`audio` is a path, from the manifest's folder on; `reference` one right answer, or a list of them;
`prompt` what to ask, where it isn't the same for all; `source` names the part of the set, which
gets a score of its own. `gt` is taken for `reference`, as in Qwen2-Audio's evaluation files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from assistant.errors import ConfigError

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


@dataclass(frozen=True, slots=True)
class Item:
    """One recording, and what is asked about it."""

    line: int
    """Of the manifest, from 1 on."""
    audio: Path
    prompt: str
    references: tuple[str, ...]
    """Right answers, at least one."""
    source: str
    """The part of the set; empty where none is named."""
    control_tokens: bool = False
    """Whether what spells a control token in the prompt is that token."""


class _Line(BaseModel):
    # Evaluation sets carry fields of their own.
    model_config = ConfigDict(extra="ignore")

    audio: _Text
    reference: _Text | Annotated[list[_Text], Field(min_length=1)] = Field(
        validation_alias=AliasChoices("reference", "gt")
    )
    # To the letter: it is what the model was asked where figures were published.
    prompt: Annotated[str, StringConstraints(pattern=r"\S")] | None = None
    source: str = ""


def read_manifest(path: Path, prompt: str | None, *, control_tokens: bool = False) -> list[Item]:
    """The items of a manifest; `prompt` is for those without one.

    With `control_tokens`, prompts may spell some. Raises ConfigError with the line, OSError.
    """
    items = []
    # As bytes: texts may hold what else Unicode ends lines by.
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            item = _item(line, number, path, prompt)
            items.append(replace(item, control_tokens=control_tokens))
    if not items:
        raise ConfigError(f"{path} holds nothing to evaluate.")
    return items


def _item(line: bytes, number: int, path: Path, prompt: str | None) -> Item:
    try:
        fields = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1]))
        raise ConfigError(
            f"{path}, line {number}: {where + ': ' if where else ''}{first['msg']}."
        ) from error
    asked = fields.prompt or prompt
    if asked is None:
        raise ConfigError(
            f"{path}, line {number}: there is no prompt; give one for all by --prompt."
        )
    references = fields.reference if isinstance(fields.reference, list) else [fields.reference]
    return Item(number, path.parent / fields.audio, asked, tuple(references), fields.source)
