"""How much a turn has to compute at least: the multiplications and additions of its matrices.

Attention looks back on all that was said, so the twentieth turn isn't the work of the first,
however well a cache is kept. How much more it is depends on the width of the model: in a narrow one
attention is a large part of the whole.
"""

from __future__ import annotations

from typing import Any

import torch

from assistant.engines.engine import PrefillReport


def operations(model: Any, report: PrefillReport, speech_s: float) -> float:
    """Of a turn of so much speech, whose prompt's tokens are new or kept as `report` tells.

    `model`: a Qwen2-Audio of the library.
    """
    text, audio = model.config.get_text_config(), model.config.audio_config
    kept = report.reused.total
    new = report.prompt.total - kept
    decoder = model.base_model.language_model.layers
    head = model.get_output_embeddings()
    encoder = model.base_model.audio_tower.layers
    # Fifty positions a second, that all look at each other.
    heard = round(50 * speech_s)
    return (
        2 * _numbers(decoder) * new
        + 4 * text.hidden_size * text.num_hidden_layers * new * (kept + new / 2)
        + 2 * _numbers(head)
        + 2 * _numbers(encoder) * heard
        + 4 * audio.d_model * audio.encoder_layers * heard**2
    )


def _numbers(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
