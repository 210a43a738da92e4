"""Granite Speech: a conformer before Granite, which an adapter teaches to listen."""

from __future__ import annotations

import json
import math
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.audio_utils import mel_filter_bank

from assistant.engines.engine import Mode
from assistant.engines.transformers.models.adapted import Adapted
from assistant.engines.transformers.models.architecture import Chat
from assistant.engines.transformers.models.chats import flat
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array


@dataclass(frozen=True, slots=True)
class LogMel:
    """Its audio front end, which in the library needs torchaudio; the defaults are those there."""

    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80

    @classmethod
    def of(cls, folder: Path) -> LogMel:
        """As the checkpoint in `folder` says."""
        file = folder / "preprocessor_config.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        given = {**kept, **kept.get("melspec_kwargs", {})}
        return cls(**{name: given[name] for name in cls.__slots__ if name in given})

    def frames(self, sample_count: int) -> int:
        """How many pairs of spectra so many samples give."""
        return (sample_count // self.hop_length + 1) // 2

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        """Pairs of log-mel spectra: float32 (n,) within ±1, 16 kHz, to (1, frames, 2 n_mels)."""
        spectrum = torch.stft(
            samples,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=torch.hann_window(self.win_length, device=samples.device),
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        bins = mel_filter_bank(
            self.n_fft // 2 + 1, self.n_mels, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ
        )
        filters = torch.from_numpy(bins).to(samples.device, torch.float32)
        log = (spectrum.abs().square().T @ filters).clamp(min=1e-10).log10()
        log = torch.maximum(log, log.max() - 8) / 4 + 1
        pairs = len(log) // 2
        return log[: 2 * pairs].reshape(1, pairs, 2 * self.n_mels)


class GraniteSpeech(Adapted):
    """10 tokens a second. Its template takes texts alone."""

    model_type = "granite_speech"
    library_class = "GraniteSpeechForConditionalGeneration"

    def part(self, config: Any) -> Any:
        """All of it; the library isn't told of the adapter, for which it would miss PEFT."""
        config = copy(config)
        config.has_lora_adapter, config.is_adapted_here = False, config.has_lora_adapter
        return config

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer, LogMel.of(folder)

    def is_adapted(self, config: Any) -> bool:
        adapted: bool = config.is_adapted_here
        return adapted

    def modes(self, tokenizer: Any) -> frozenset[Mode]:
        return frozenset({"audio_analysis", "text"})

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        return flat(messages, audio_token)

    def audio_tokens(self, model: Any, extractor: LogMel, sample_count: int) -> int:
        window = model.config.window_size
        blocks = math.ceil(extractor.frames(sample_count) / window)
        return int(blocks * (window // model.config.downsample_rate))

    def encode_audio(self, model: Any, extractor: LogMel, samples: Int16Array) -> torch.Tensor:
        heard = torch.from_numpy(samples.astype("float32") / 32_768).to(model.device)
        features = extractor(heard).to(model.dtype)
        encoded: torch.Tensor = model.base_model.get_audio_features(features).pooler_output[0]
        return encoded

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        # The token for audio may lie beyond those that have embeddings.
        return super().embed(model, ids.masked_fill(ids == model.config.audio_token_id, 0))
