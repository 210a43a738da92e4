"""Builds tiny checkpoints with random weights, one of each architecture that is served besides
Qwen2-Audio (`tests/tiny_models.py`): the real architecture, and the files that its authors publish.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from assistant.engines.transformers.models.voxtral import Voxtral
from tests.tiny_models import CONTEXT_TOKENS, fill, greedy_and_printable

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
}
"""A language model's sizes."""
WHISPER = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 128,
}
"""An audio encoder's sizes."""

TEKKEN_SPECIALS = 100
TEKKEN_CONTROL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    24: "[AUDIO]",
    25: "[BEGIN_AUDIO]",
}


def build_voxtral(folder: Path) -> Path:
    """Its tokenizer is Mistral's file of bytes, behind as many control tokens."""
    tekken = {
        "config": {
            "pattern": r"\p{L}+|\p{N}|[^\p{L}\p{N}]",
            "num_vocab_tokens": 256,
            "default_vocab_size": TEKKEN_SPECIALS + 256,
            "default_num_special_tokens": TEKKEN_SPECIALS,
            "version": "v7",
        },
        "vocab": [
            {"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode()}
            for byte in range(256)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": TEKKEN_CONTROL.get(rank, f"<SPECIAL_{rank}>")}
            for rank in range(TEKKEN_SPECIALS)
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(tekken))
    config = VoxtralConfig(
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        text_config={**TEXT, "vocab_size": TEKKEN_SPECIALS + 256, "head_dim": 8},
        audio_token_id=24,
    )
    model = VoxtralForConditionalGeneration(config)
    fill(model)
    tokenizer, _ = Voxtral().front_end(_with_extractor(folder))
    model.generation_config = greedy_and_printable(
        tokenizer, config.text_config.vocab_size, ends=["</s>"]
    )
    model.save_pretrained(folder)
    return folder


def _with_extractor(folder: Path) -> Path:
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    return folder
