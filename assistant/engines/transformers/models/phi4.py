"""Phi-4-multimodal: a conformer before Phi-4-mini, which an adapter teaches to listen."""

from __future__ import annotations

from typing import Any

import torch

from assistant.engines.transformers.models.adapted import Adapted
from assistant.engines.transformers.models.architecture import Chat
from assistant.engines.transformers.models.chats import flat
from audio_io.pcm import Int16Array


class Phi4Multimodal(Adapted):
    """12.5 tokens a second. Its template takes texts alone.

    Its encoder hears the padding of a batch of sounds; here each is encoded alone.

    Beyond the length that it was first trained for, its positions turn other ways, and all that
    was computed would be lost: it stays below.
    """

    model_type = "phi4_multimodal"
    library_class = "Phi4MultimodalForCausalLM"
    unused = ("embed_tokens_extend.image_embed",)
    adapter = "speech-lora"

    def context_tokens(self, config: Any) -> int:
        return int(config.original_max_position_embeddings or config.max_position_embeddings)

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        return flat(messages, audio_token)

    def audio_token_id(self, config: Any) -> int:
        id_: int = config.audio_config.audio_token_id
        return id_

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        frames = (sample_count - extractor.win_length) // extractor.hop_length + 1
        return int(extractor._compute_audio_embed_size(torch.tensor(frames)))

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        features = extractor(
            samples.astype("float32") / 32_768,
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
        )
        tokens = features["audio_embed_sizes"]
        # It puts what it has heard into the places of these.
        ids = torch.full((1, int(tokens)), self.audio_token_id(model.config), device=model.device)
        heard: torch.Tensor = model.base_model.embed_tokens_extend.audio_embed(
            ids,
            self.embed(model, ids),
            audio_input_features=features["audio_input_features"].to(model.device),
            audio_embed_sizes=tokens,
        )
        return heard[0]

    def decoder(self, model: Any) -> Any:
        return model.base_model
