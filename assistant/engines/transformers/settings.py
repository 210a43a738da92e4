"""How a checkpoint is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class TransformersSettings(BaseModel):
    """Tunables of the `transformers` engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA in bf16 where there is a GPU, else the CPU in float32."""
    worker: Literal["process", "thread"] = "process"
    """In a process of its own, a crash of the model takes no conversation with it."""
    decode_ahead_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens that a reply may run ahead of the end of its turn."""
    max_output_tokens: Annotated[int, Field(ge=1)] = 1024
    """Tokens of a reply whose options name no number."""
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    """0: always the likeliest token; None: as the checkpoint's generation config says."""
