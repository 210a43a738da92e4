"""Voxtral: a Whisper encoder before Mistral's language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, TokenizersBackend
from transformers.integrations.mistral.tokenizer import MistralConverter

from assistant.engines.transformers.models.architecture import Architecture, Chat
from assistant.engines.transformers.models.chats import instructions_in_first_turn
from assistant.engines.transformers.models.whisper import log_mel
from audio_io.pcm import Int16Array

TEKKEN = "tekken.json"
# That of the tokenizer's seventh version, which Mistral keeps in code and not in the checkpoint.
TEMPLATE = """
{{- '<s>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- message.content + '</s>' }}
    {%- else %}
        {{- '[INST]' }}
        {%- for part in message.content %}
            {{- '[BEGIN_AUDIO][AUDIO]' if part.type == 'audio' else part.text }}
        {%- endfor %}
        {{- '[/INST]' }}
    {%- endif %}
{%- endfor %}
"""


class Voxtral(Architecture):
    """375 tokens for any sound up to 30 s, whose silence its encoder hears too.

    It was trained without instructions beside audio: they go before the first turn.
    """

    model_type = "voxtral"
    library_class = "VoxtralForConditionalGeneration"
    ends = ("</s>",)

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        # Not AutoTokenizer, which for this file wants a package that nothing else needs.
        tokenizer = TokenizersBackend(  # type: ignore[no-untyped-call]
            tokenizer_object=MistralConverter(str(folder / TEKKEN)).converted(),
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            chat_template=TEMPLATE,
        )
        extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
        return tokenizer, extractor

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        return instructions_in_first_turn(messages)

    def transcription(self, language: str) -> str | None:
        return (f"lang:{language}" if language else "") + "[TRANSCRIBE]"

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        audio = model.config.audio_config
        # The projector takes several of the encoder's positions for one token.
        return int(audio.max_source_positions * audio.hidden_size // audio.intermediate_size)

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        spectrogram, _ = log_mel(extractor, samples, model.device)
        encoded: torch.Tensor = model.base_model.get_audio_features(spectrogram).pooler_output
        return encoded
