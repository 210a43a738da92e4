"""Gemma 3n: a conformer before a language model that has embeddings of its own for every layer."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from transformers import ViTConfig
from transformers.cache_utils import Cache

from assistant.engines.transformers.models.architecture import Architecture, Chat
from assistant.engines.transformers.models.chats import instructions_in_first_turn, taking_turns
from audio_io.pcm import Int16Array


class Gemma3n(Architecture):
    """188 tokens for any sound up to 30 s, of which silence takes the rest.

    Its encoder hears the padding of a batch of sounds; here each is encoded alone.

    Its template wants user and assistant by turns. Most of its layers look back over a window
    alone; what is kept is whole all the same, so that it can be cut anywhere. The last layers
    look at what earlier ones keep, and keep nothing.

    What goes into each layer depends on the token too: its embeddings for all layers are put
    behind its embedding, so that they travel as one.
    """

    model_type = "gemma3n"
    library_class = "Gemma3nForConditionalGeneration"
    around = ("\n\n<start_of_audio>", "<end_of_audio>\n\n")
    unused: tuple[str, ...] = ("vision_tower",)

    def part(self, config: Any) -> Any:
        """With eyes that need no package, and are taken out once the weights are loaded."""
        seen = config.vision_config
        eyes = ViTConfig(  # type: ignore[call-arg]
            hidden_size=seen.hidden_size,
            num_hidden_layers=0,
            num_attention_heads=1,
            intermediate_size=1,
            image_size=1,
            patch_size=1,
            vocab_size=seen.vocab_size,
            vocab_offset=seen.vocab_offset,
            rms_norm_eps=seen.rms_norm_eps,
        )
        config = copy(config)
        # Its own check lets no other kind through.
        object.__setattr__(config, "vision_config", eyes)
        return config

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        head = messages[:1] if len(messages) > 1 and messages[0]["role"] == "system" else []
        return [*head, *taking_turns(instructions_in_first_turn(messages[len(head) :]))]

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        return int(model.config.audio_soft_tokens_per_image)

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        features = extractor(samples.astype("float32") / 32_768, return_tensors="pt")
        heard = model.base_model.get_audio_features(
            features["input_features"].to(model.device, model.dtype),
            ~features["input_features_mask"].to(model.device),
        )
        ids = torch.full(
            (1, self.audio_tokens(model, extractor, len(samples))),
            model.config.audio_token_id,
            device=model.device,
        )
        silence = torch.tensor([[model.base_model.vocab_size - 1]], device=model.device)
        encoded = model.base_model.embed_audio(input_ids=silence).repeat(1, ids.shape[1], 1)
        in_use = (~heard.audio_mel_mask[0]).nonzero()[:, 0]
        encoded[0, in_use] = heard.pooler_output[0, in_use]
        return with_layers(model, encoded, ids)[0]

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        listening = model.base_model.embed_audio
        # The tokens around audio are not among those of text.
        apart = ids >= listening.vocab_offset
        heard = listening(input_ids=torch.where(apart, ids, listening.vocab_offset))
        embedded = torch.where(apart[..., None], heard, model.get_input_embeddings()(ids))
        return with_layers(model, embedded, ids)

    def hidden_states(
        self, model: Any, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        text = model.base_model.language_model
        width, layers = text.config.hidden_size, text.config.num_hidden_layers
        hidden: torch.Tensor = text(
            inputs_embeds=embeddings[..., :width],
            per_layer_inputs=embeddings[..., width:].reshape(*positions.shape, layers, -1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        logits = super().logits(model, hidden)
        cap = model.config.get_text_config().final_logit_softcapping
        return torch.tanh(logits / cap) * cap if cap else logits


def with_layers(model: Any, embedded: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(1, n, width) with the embeddings of the tokens for each layer behind them."""
    layers = model.base_model.language_model.get_per_layer_inputs(ids)
    return torch.cat([embedded, layers.flatten(-2)], dim=-1)
