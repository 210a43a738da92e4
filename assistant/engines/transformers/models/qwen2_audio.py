"""Qwen2-Audio: a Whisper encoder before Qwen2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import gelu
from torch.nn.utils.rnn import pad_sequence
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
    encodes_together = True

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

    def encode_audios(
        self, model: Any, extractor: Any, sounds: Sequence[Int16Array]
    ) -> list[torch.Tensor]:
        # The library's own forward takes 30 s, whatever was said, and masks what is silence behind
        # it. Without that silence there is nothing to mask, and little to compute. Among several,
        # what is behind the shorter ones is masked.
        tower = model.base_model.audio_tower
        lengths = [_lengths(model, frames_in_use(extractor, len(samples))) for samples in sounds]
        positions = [count for count, _ in lengths]
        longest = max(positions)
        spectrograms = [short_log_mel(extractor, samples, model.device)[0].T for samples in sounds]
        spectrogram = pad_sequence(spectrograms, batch_first=True).transpose(1, 2).to(model.dtype)
        heard = gelu(tower.conv1(spectrogram))
        heard = gelu(tower.conv2(heard)).transpose(1, 2)[:, :longest]
        heard = heard + tower.embed_positions.weight[:longest]
        mask = None
        if min(positions) < longest:
            ends = torch.tensor(positions, device=model.device)
            mask = (torch.arange(longest, device=model.device) < ends[:, None])[:, None, None]
        for layer in tower.layers:
            heard = layer(heard, mask)
        pooled = tower.avg_pooler(heard.transpose(1, 2)).transpose(1, 2)
        projected = model.base_model.multi_modal_projector(tower.layer_norm(pooled))
        return [of_one[:tokens] for of_one, (_, tokens) in zip(projected, lengths, strict=True)]


def _lengths(model: Any, frames: int) -> tuple[int, int]:
    """Of so many frames of a spectrogram: positions in the encoder, and tokens."""
    lengths: tuple[int, int]
    lengths = model.base_model.audio_tower._get_feat_extract_output_lengths(frames)
    return lengths
