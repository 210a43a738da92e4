"""Audio Flamingo 3 and Music Flamingo: a Whisper encoder before Qwen2.5."""

from __future__ import annotations

from typing import Any

import torch

from assistant.engines.transformers.models.architecture import Architecture, Chat
from assistant.engines.transformers.models.chats import flat, sounds_first
from assistant.engines.transformers.models.whisper import frames_in_use, log_mel
from audio_io.pcm import Int16Array


class AudioFlamingo3(Architecture):
    """25 tokens a second.

    Its template writes one marker a message, before the texts, however many sounds there are, and
    its processor takes one sound a conversation: each sound gets a marker of its own here.
    """

    model_type = "audioflamingo3"
    library_class = "AudioFlamingo3ForConditionalGeneration"

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        return flat(sounds_first(messages), audio_token)

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        frames = frames_in_use(extractor, sample_count)
        tower = model.base_model.audio_tower
        return int(tower._get_feat_extract_output_lengths(frames)[1])

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        spectrogram, in_use = log_mel(extractor, samples, model.device)
        heard = model.base_model.get_audio_features(
            spectrogram.to(model.dtype), input_features_mask=in_use
        )
        encoded: torch.Tensor = heard.pooler_output
        return encoded


class MusicFlamingo(AudioFlamingo3):
    """The same, told the time within a sound, between tokens that begin and end it."""

    model_type = "musicflamingo"
    library_class = "MusicFlamingoForConditionalGeneration"
    around = ("<|sound_bos|>", "<|sound_eos|>")

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        spectrogram, in_use = log_mel(extractor, samples, model.device)
        tokens = self.audio_tokens(model, extractor, len(samples))
        # From these it learns that all of it is one sound.
        ids = torch.full((1, tokens), model.config.audio_token_id, device=model.device)
        heard = model.base_model.get_audio_features(
            spectrogram.to(model.dtype), input_features_mask=in_use, input_ids=ids
        )
        encoded: torch.Tensor = heard.pooler_output
        return encoded
