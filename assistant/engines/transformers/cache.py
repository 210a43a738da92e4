"""What the model has computed: tokens in, logits out, and the keys and values kept between."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from assistant.engines.transformers.model import Checkpoint


class KeyValueCache:
    """What the model has computed of one sequence of tokens."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model
        self._cache = DynamicCache(config=checkpoint.model.config)

    def feed(self, ids: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Take in tokens (int64 (1, n)) with the audio features that they stand for.

        Returns the logits of the token to follow: float32 (1, vocabulary).
        """
        start = self._cache.get_seq_length()
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        hidden = self._model.base_model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **features,
        ).last_hidden_state
        # Of the last position alone: a long prompt's logits would take hundreds of megabytes.
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden[:, -1])
        return logits.float()
