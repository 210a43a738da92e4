"""Language models that an adapter teaches to listen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import Cache

from assistant.engines.transformers.models.architecture import Architecture
from assistant.engines.transformers.models.lora import Switch, attach
from audio_io.pcm import Int16Array


class Adapted(Architecture):
    """Its adapter acts in prompts that have audio, and in no others, as its authors' code has it:
    those are answered by the language model that it was made of.

    Every embedding has a number behind it that tells which, so that both kinds take steps together.
    """

    adapter = "."
    """The adapter's folder in that of the checkpoint."""
    hearing_matters = True

    def is_adapted(self, config: Any) -> bool:
        """Whether the checkpoint has an adapter."""
        return True

    def finish(self, model: Any, extractor: Any, folder: Path) -> None:
        model.adapter_switch = Switch()
        if self.is_adapted(model.config):
            attach(folder / self.adapter, model, model.adapter_switch)

    def encode_audios(
        self, model: Any, extractor: Any, sounds: Sequence[Int16Array]
    ) -> list[torch.Tensor]:
        encoded = super().encode_audios(model, extractor, sounds)
        return [self.marked(of_one, torch.ones_like(of_one[:, 0])) for of_one in encoded]

    def marked(self, embeddings: torch.Tensor, hears: torch.Tensor) -> torch.Tensor:
        marks = hears.view(*embeddings.shape[:-1], 1).to(embeddings.dtype)
        return torch.cat([embeddings, marks], dim=-1)

    def hidden_states(
        self, model: Any, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        model.adapter_switch.on = embeddings[..., -1:]
        return super().hidden_states(model, embeddings[..., :-1], positions, cache)
