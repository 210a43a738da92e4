"""An entry for a model: GLM-ASR, a Whisper encoder before Llama.

What is not said here is as it is with most models: see `models/architecture.py`. Once its class is
in `models/registry.py`, checkpoints whose `config.json` names this `model_type` are served by it.
"""

from __future__ import annotations

from typing import Any

import torch

from assistant.engines.transformers.models.architecture import Architecture
from assistant.engines.transformers.models.whisper import frames_in_use, log_mel
from audio_io.pcm import Int16Array


class GlmAsr(Architecture):
    """12.5 tokens a second."""

    model_type = "glmasr"
    library_class = "GlmAsrForConditionalGeneration"

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        positions = (frames_in_use(extractor, sample_count) - 1) // 2 + 1
        # Four positions of the encoder make a token.
        return positions // 4

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        spectrogram, in_use = log_mel(extractor, samples, model.device)
        heard = model.get_audio_features(spectrogram.to(model.dtype), input_features_mask=in_use)
        encoded: torch.Tensor = heard.pooler_output
        return encoded
