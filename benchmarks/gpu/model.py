"""A model with random weights, at the real size or at a small one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.models.qwen2_audio import Qwen2Audio
from tests.tiny_models import CONTROL_TOKENS, byte_level_tokenizer

CONTEXT_TOKENS = 8192


@dataclass(frozen=True)
class Scale:
    """How large the model is, and how much is asked of it."""

    text: dict[str, int]
    audio: dict[str, int]
    contexts: tuple[int, ...]
    """Tokens of one conversation alone."""
    batches: tuple[int, ...]
    """Conversations at once."""
    batch_context: int
    """Tokens of each of them."""
    turns: int


# The configuration of Qwen/Qwen2-Audio-7B-Instruct.
REAL = Scale(
    text={
        "vocab_size": 156_032,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    audio={"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20}
    | {"encoder_ffn_dim": 5120},
    contexts=(1024, 8000),
    batches=(16, 32),
    batch_context=2048,
    turns=20,
)
SMALL = Scale(
    text={
        "vocab_size": 8192,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
    audio={"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6}
    | {"encoder_ffn_dim": 1536},
    contexts=(256, 1024),
    batches=(8,),
    batch_context=256,
    turns=5,
)


def random_checkpoint(scale: Scale, device: torch.device) -> Checkpoint:
    """A model of these dimensions, made on its device."""
    tokenizer = byte_level_tokenizer()
    control = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
    config = Qwen2AudioConfig(
        audio_config=scale.audio | {"num_mel_bins": 128},
        text_config=scale.text | {"model_type": "qwen2", "max_position_embeddings": CONTEXT_TOKENS},
        audio_token_index=control["<|AUDIO|>"],
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with device:
        model = Qwen2AudioForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    ends = [control["<|endoftext|>"], control["<|im_end|>"]]
    # No reply ends before its limit.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=ends[0], suppress_tokens=ends
    )
    extractor = WhisperFeatureExtractor(feature_size=128)
    tokenizer.chat_template = Qwen2AudioProcessor(extractor, tokenizer).chat_template
    return Checkpoint(
        model=model.eval().requires_grad_(False),
        architecture=Qwen2Audio(),
        tokenizer=tokenizer,
        extractor=extractor,
        generation=model.generation_config,
        context_tokens=CONTEXT_TOKENS,
        device=device,
    )
