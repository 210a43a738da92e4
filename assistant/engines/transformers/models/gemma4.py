"""Gemma 4, where it takes audio: E2B and E4B through a conformer, 12B as raw samples."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from assistant.engines.transformers.models.architecture import Architecture, Chat
from assistant.engines.transformers.models.gemma3n import Gemma3n, with_layers
from assistant.errors import EngineError
from audio_io.pcm import Int16Array


class Gemma4(Gemma3n):
    """25 tokens a second.

    As in Gemma 3n, every layer has embeddings of its own, most look back over a window alone, and
    the last look at what earlier ones keep. Those that see all have wider heads than the others.
    """

    model_type = "gemma4"
    library_class = "Gemma4ForConditionalGeneration"
    around = ("<|audio>", "<audio|>")
    unused: tuple[str, ...] = ("vision_tower", "embed_vision")

    def part(self, config: Any) -> Any:
        """All of it. Raises EngineError where that has no ears."""
        if config.audio_config is None:
            raise EngineError("Of Gemma 4, only E2B, E4B and 12B take audio.")
        return config

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        return messages

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        # Frames of 20 ms, and a sample more, that lie within the sound, as its mask counts them.
        frames = (sample_count - 1) // extractor.hop_length
        for _ in range(2):
            frames = -(-frames // 2)
        return int(frames)

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        features = extractor([samples.astype("float32") / 32_768], return_tensors="pt")
        heard = model.base_model.get_audio_features(
            features["input_features"].to(model.device, model.dtype),
            features["input_features_mask"].to(model.device),
        )
        encoded = heard.pooler_output[0, heard.attention_mask[0]]
        # In the layers it has the embeddings of padding.
        padding = model.config.get_text_config().pad_token_id
        ids = torch.full((1, len(encoded)), padding, device=model.device)
        return with_layers(model, encoded[None], ids)[0]

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        return with_layers(model, model.get_input_embeddings()(ids), ids)


class Gemma4Unified(Gemma4):
    """The 12B: 640 samples are a token, without an encoder; its layers have no embeddings."""

    model_type = "gemma4_unified"
    library_class = "Gemma4UnifiedForConditionalGeneration"
    unused = ("embed_vision",)

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        return -(-sample_count // int(extractor.audio_samples_per_token))

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        features = extractor([samples.astype("float32") / 32_768], return_tensors="pt")
        encoded: torch.Tensor = model.base_model.get_audio_features(
            features["input_features"].to(model.device, model.dtype),
            features["input_features_mask"].to(model.device),
        ).pooler_output[0]
        return encoded

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        return Architecture.embed(self, model, ids)

    def hidden_states(
        self, model: Any, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        return Architecture.hidden_states(self, model, embeddings, positions, cache)
