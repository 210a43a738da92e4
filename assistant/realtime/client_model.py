"""What clients write, as pydantic checks it. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClientModel(BaseModel):
    """Something that a client writes: a string is no number, and 1.0 no integer.

    Unknown fields are refused as the API refuses them: a misspelt setting that is silently ignored
    costs a day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
