"""How a checkpoint is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from assistant.settings import Settings

MIN_TEMPERATURE = 0.01
"""Dividing by less, logits leave the range of float32."""


def _computable(temperature: float | None) -> float | None:
    if temperature and temperature < MIN_TEMPERATURE:
        raise ValueError(f"it must be 0, or at least {MIN_TEMPERATURE}")
    return temperature


STEP_TIMEOUT_ON_GPU_S = 30.0
"""There, a step takes 0.1 s at most; on a CPU, that of a large model may take minutes."""

StepKind = Literal["recorded", "paged", "plain"]


class TransformersSettings(Settings):
    """Tunables of the `transformers` engine."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA in bf16 where there is a GPU, else the CPU in float32."""
    weights: Literal["full", "int8", "int4", "fp8"] = "full"
    """Smaller ones, of the language model, need the extra `quantised`; answers change a little."""
    steps: StepKind = "recorded"
    """How a GPU computes decode steps: recorded and replayed; each anew, with a kernel for pages;
    or with the library's own attention. What doesn't work is left out by itself."""
    worker: Literal["process", "thread"] = "process"
    """In a process of its own, a crash of the model takes no conversation with it."""
    step_timeout_s: Annotated[float, Field(gt=0)] | Literal["auto"] | None = "auto"
    """Without a sign of life for so long, a worker that has work to do is replaced. auto: 30 on a
    GPU, never on a CPU; None: never, for when a debugger stops it."""
    decode_ahead_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens that a reply may run ahead of the end of its turn."""
    max_output_tokens: Annotated[int, Field(ge=1)] = 1024
    """Tokens of a reply whose options name no number."""
    prefill_chunk_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens of a prompt that are taken in at once; between, other conversations get theirs."""
    max_context_tokens: Annotated[int, Field(ge=1024)] = 32_768
    """Most tokens of a conversation, where the model takes more. The default holds twenty minutes
    of speech and more, of every model; what one conversation may take, others can't have."""
    cache_gb: Annotated[float | None, Field(gt=0)] = None
    """Memory for what is kept of conversations, in GB; None: what the device has to spare."""
    temperature: Annotated[float | None, Field(ge=0, le=2), AfterValidator(_computable)] = None
    """0: always the likeliest token; None: as the checkpoint's generation config says."""
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    """Sample from the likeliest tokens that together have this probability; None: as above."""
    top_k: Annotated[int | None, Field(ge=0)] = None
    """Sample from so many of the likeliest tokens, 0: from all; None: as above."""
    repetition_penalty: Annotated[float | None, Field(ge=0.1, le=10)] = None
    """Above 1, tokens that were there before are less likely; None: as above."""
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    """With it, the same prompt always gets the same reply; None: never mind."""

    def longest_step_s(self, *, on_gpu: bool) -> float | None:
        """How long a step may take before the worker is taken for hung; None: for ever."""
        if self.step_timeout_s == "auto":
            return STEP_TIMEOUT_ON_GPU_S if on_gpu else None
        return self.step_timeout_s
