"""Qwen2-Audio: a Whisper encoder before Qwen2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import gelu
from transformers import AutoProcessor, GenerationConfig

from assistant.engines.engine import Mode
from assistant.engines.transformers.models.architecture import Architecture, end_ids
from assistant.engines.transformers.models.whisper import frames_in_use, short_log_mel
from audio_io.pcm import Int16Array

TURN_END = "<|im_end|>"
# As the base model's card writes a prompt: no roles, and nothing between the parts.
CONTINUATION = """
{%- for message in messages %}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
"""


class Qwen2Audio(Architecture):
    """25 tokens a second. Its template numbers the sounds of a conversation.

    The base model, whose replies no turn's end ends, goes on with what it is given.
    """

    model_type = "qwen2_audio"
    library_class = "Qwen2AudioForConditionalGeneration"

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        # A checkpoint without a chat template has the one in the processor's code.
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
        tokenizer = processor.tokenizer
        ends = end_ids(GenerationConfig.from_pretrained(folder))
        chats = tokenizer.convert_tokens_to_ids(TURN_END) in ends
        tokenizer.chat_template = processor.chat_template if chats else CONTINUATION
        return tokenizer, processor.feature_extractor

    def modes(self, tokenizer: Any) -> frozenset[Mode]:
        if tokenizer.chat_template == CONTINUATION:
            return frozenset({"continuation"})
        return super().modes(tokenizer)

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        return _lengths(model, frames_in_use(extractor, sample_count))[1]

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        # The library's own forward takes 30 s, whatever was said, and masks what is silence behind
        # it. Without that silence there is nothing to mask, and little to compute.
        tower = model.base_model.audio_tower
        positions, _ = _lengths(model, frames_in_use(extractor, len(samples)))
        spectrogram = short_log_mel(extractor, samples, model.device).to(model.dtype)
        heard = gelu(tower.conv1(spectrogram))
        heard = gelu(tower.conv2(heard)).transpose(1, 2)[:, :positions]
        heard = heard + tower.embed_positions.weight[:positions]
        for layer in tower.layers:
            heard = layer(heard, None)
        pooled = tower.avg_pooler(heard.transpose(1, 2)).transpose(1, 2)
        projected: torch.Tensor = model.base_model.multi_modal_projector(tower.layer_norm(pooled))
        return projected[0]


def _lengths(model: Any, frames: int) -> tuple[int, int]:
    """Of so many frames of a spectrogram: positions in the encoder, and tokens."""
    lengths: tuple[int, int]
    lengths = model.base_model.audio_tower._get_feat_extract_output_lengths(frames)
    return lengths
