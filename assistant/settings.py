"""What all settings have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Settings(BaseModel):
    """Some settings. A string is no number, true no 1, infinity no amount; no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# YAML has neither paths nor tuples.
PathSetting = Annotated[Path, Field(strict=False)]
Several = Annotated[tuple[T, ...], Field(strict=False)]
