"""What the machine and the model allow at best: bytes and operations per second, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from assistant.engines.transformers.model import Checkpoint


@dataclass(frozen=True)
class Bounds:
    """What the machine and the model allow at best."""

    checkpoint: Checkpoint
    bytes_per_s: float
    operations_per_s: float

    @cached_property
    def _weights(self) -> int:
        # Of the embeddings a step reads a few rows alone.
        model = self.checkpoint.model
        parts = (model.base_model.language_model.layers, model.get_output_embeddings())
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    def step_ms(self, *contexts: int) -> float:
        """A decode step for conversations of so many tokens: weights and caches read once."""
        weights = self._weights * self.checkpoint.model.dtype.itemsize
        caches = sum(contexts) * self.checkpoint.cache_shape.bytes_per_token
        return (weights + caches) / self.bytes_per_s * 1000

    def first_token_ms(self, heard_s: float, new_tokens: int, context: int) -> float:
        """An utterance heard, which makes 50 positions a second, and its tokens taken in."""
        model = self.checkpoint.model.base_model
        encoder = sum(p.numel() for p in model.audio_tower.layers.parameters())
        operations = 2 * (encoder * 50 * heard_s + self._weights * new_tokens)
        return max(self.step_ms(context), operations / self.operations_per_s * 1000)


def measured_bounds(checkpoint: Checkpoint) -> Bounds:
    """What this device moves and multiplies per second, the best of several."""
    on_gpu = checkpoint.device.type == "cuda"
    kind: Any = {"device": checkpoint.device, "dtype": checkpoint.model.dtype}
    source = torch.ones(2**30 if on_gpu else 2**26, **kind)
    target = torch.empty_like(source)
    copied_s = min(seconds_of(lambda: target.copy_(source)) for _ in range(5))
    size = 8192 if on_gpu else 1024
    square = torch.ones((size, size), **kind)
    multiplied_s = min(seconds_of(lambda: square @ square) for _ in range(5))
    return Bounds(checkpoint, 2 * source.nbytes / copied_s, 2 * size**3 / multiplied_s)


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes, until the device is through."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
