"""Qwen2.5-Omni and Qwen3-Omni: their thinker, which answers with text.

The talker, which would say it aloud, and the eyes are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as qwen3

from assistant.engines.transformers.models.architecture import Architecture
from assistant.engines.transformers.models.whisper import frames_in_use, log_mel
from audio_io.pcm import Int16Array


class Qwen25Omni(Architecture):
    """25 tokens a second. Its positions of sound and text are those of a plain sequence."""

    model_type = "qwen2_5_omni"
    library_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    # Its own code passes it beside the generation config.
    ends = ("<|im_end|>",)
    unused = ("visual",)
    encodes_together = True

    def part(self, config: Any) -> Any:
        return config.thinker_config

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        frames = frames_in_use(extractor, sample_count)
        tower = model.base_model.audio_tower
        return int(tower._get_feat_extract_output_lengths(frames)[1])

    def encode_audios(
        self, model: Any, extractor: Any, sounds: Sequence[Int16Array]
    ) -> list[torch.Tensor]:
        # Its encoder cuts sounds into windows, and hears nothing beyond each.
        features = [log_mel(extractor, samples, model.device) for samples in sounds]
        spectrograms, in_use = map(torch.cat, zip(*features, strict=True))
        heard = model.base_model.get_audio_features(spectrograms, feature_attention_mask=in_use)
        tokens = [self.audio_tokens(model, extractor, len(samples)) for samples in sounds]
        return list(heard.last_hidden_state.split(tokens))


class Qwen3Omni(Qwen25Omni):
    """13 tokens a second, and a mixture of experts.

    Its encoder hears the padding of a batch of sounds; here each is encoded alone.
    """

    model_type = "qwen3_omni_moe"
    library_class = "Qwen3OmniMoeThinkerForConditionalGeneration"
    encodes_together = False

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        frames = frames_in_use(extractor, sample_count)
        window = model.config.audio_config.n_window
        return int(qwen3._get_feat_extract_output_lengths(frames, window))  # type: ignore[no-untyped-call]

    def encode_audios(
        self, model: Any, extractor: Any, sounds: Sequence[Int16Array]
    ) -> list[torch.Tensor]:
        alone = super().encode_audios
        return [alone(model, extractor, [samples])[0] for samples in sounds]
