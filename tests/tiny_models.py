"""Builds a tiny Qwen2-Audio checkpoint with random weights: the real architecture, files and
chat template, 0.8 MB, the same bytes every time.

    python -m tests.tiny_models FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AddedToken,
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Tokenizer,
    WhisperFeatureExtractor,
)

CONTROL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
]
CONTEXT_TOKENS = 8192
# So wide that what is heard changes every token, and that replies neither repeat themselves at
# once nor all go on for ever.
WEIGHT_SPREAD = 0.4


@dataclass(frozen=True)
class Size:
    """Widths and layers of the language model and of the audio encoder."""

    width: int
    layers: int
    audio_width: int
    audio_layers: int
    heads: int = 4
    spread: float = WEIGHT_SPREAD


TINY = Size(width=64, layers=2, audio_width=32, audio_layers=1)
# For benchmarks: the arithmetic is the largest part of the time.
MID_SIZE = Size(width=768, layers=8, audio_width=384, audio_layers=4, heads=12, spread=0.02)


def build_qwen2_audio(
    folder: Path, size: Size = TINY, merges: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write the checkpoint into `folder`, which is made where needed, and return it.

    A byte-level tokenizer without merges, and replies of printable ASCII alone: a reply's text
    tokenises to the very ids it was sampled as, so that the model card's way, which knows only
    the text, is an exact reference. With `merges` that is no longer so.
    """
    tokenizer = byte_level_tokenizer(merges)
    control = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
    config = Qwen2AudioConfig(
        audio_config={
            "d_model": size.audio_width,
            "encoder_layers": size.audio_layers,
            "encoder_attention_heads": size.heads // 2,
            "encoder_ffn_dim": 2 * size.audio_width,
            "num_mel_bins": 128,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": size.width,
            "intermediate_size": 2 * size.width,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads // 2,
            "max_position_embeddings": CONTEXT_TOKENS,
        },
        audio_token_index=control["<|AUDIO|>"],
    )
    model = Qwen2AudioForConditionalGeneration(config)
    fill(model, size.spread)
    merged = {tokenizer.convert_tokens_to_ids("".join(merge)) for merge in merges}
    model.generation_config = greedy_and_printable(
        tokenizer, len(tokenizer), ends=["<|im_end|>", "<|endoftext|>"], more=merged
    )
    model.save_pretrained(folder)
    Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128), tokenizer).save_pretrained(
        folder
    )
    return folder


def greedy_and_printable(
    tokenizer: Any, vocabulary: int, ends: Sequence[str], more: Collection[int] = ()
) -> GenerationConfig:
    """Replies of printable ASCII, and `more`, which the first of `ends` may end."""
    end, *others = map(tokenizer.convert_tokens_to_ids, ends)
    said = {end, *more}
    for character in map(chr, range(32, 127)):
        said |= {*tokenizer.encode(character, add_special_tokens=False)}
    return GenerationConfig(
        do_sample=False,
        eos_token_id=[*others, end],
        pad_token_id=[*others, end][0],
        suppress_tokens=[id_ for id_ in range(vocabulary) if id_ not in said],
    )


def answers_for_ever(folder: Path) -> Path:
    """Change the checkpoint in `folder` so that its replies end at the length limit alone."""
    config = GenerationConfig.from_pretrained(folder)
    config.suppress_tokens.extend(config.eos_token_id)
    config.save_pretrained(folder)
    return folder


def as_base(folder: Path) -> Path:
    """Change the checkpoint in `folder` to be a base model, for whom turns have no end."""
    config = GenerationConfig.from_pretrained(folder)
    end, turn_end = config.eos_token_id
    config.eos_token_id = [end]
    config.suppress_tokens = [id_ for id_ in [*config.suppress_tokens, turn_end] if id_ != end]
    config.save_pretrained(folder)
    return folder


def with_context(folder: Path, tokens: int) -> Path:
    """Change the checkpoint in `folder` to take no more than `tokens`."""
    config = Qwen2AudioConfig.from_pretrained(folder)
    config.text_config.max_position_embeddings = tokens
    config.save_pretrained(folder)
    return folder


def byte_level_tokenizer(
    merges: Sequence[tuple[str, str]] = (), control: Sequence[str] = CONTROL_TOKENS
) -> Qwen2Tokenizer:
    """Bytes, pairs of them by `merges`, and the `control` tokens."""
    pieces = [*sorted(ByteLevel.alphabet()), *map("".join, merges)]
    vocabulary = {piece: id_ for id_, piece in enumerate(pieces)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=list(merges))
    tokenizer.add_tokens([AddedToken(token, special=True) for token in control])
    return tokenizer


def fill(model: torch.nn.Module, spread: float = WEIGHT_SPREAD) -> None:
    """Random weights, the same every time."""
    # Not torch's own generator, whose numbers may change with its version.
    numbers = np.random.Generator(np.random.PCG64(0))
    for name, parameter in sorted(model.named_parameters()):
        values = numbers.normal(0.0, spread, parameter.shape).astype(np.float32)
        if name.endswith("norm.weight"):
            values += 1
        parameter.data.copy_(torch.from_numpy(values))


if __name__ == "__main__":
    build_qwen2_audio(Path(sys.argv[1]))
