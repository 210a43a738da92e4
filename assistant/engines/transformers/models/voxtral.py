"""Voxtral: a Whisper encoder before Mistral's language models."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

import torch
from transformers import AutoFeatureExtractor, TokenizersBackend
from transformers.integrations.mistral.tokenizer import MistralConverter

from assistant.engines.transformers.models.architecture import Architecture, Chat
from assistant.engines.transformers.models.chats import instructions_in_first_turn
from assistant.engines.transformers.models.whisper import log_mel
from audio_io.pcm import Int16Array

TEKKEN = "tekken.json"
# Mistral keeps it in code, and not in the checkpoint.
TEMPLATE = Template("""
{%- set turns = messages | selectattr('role', 'equalto', 'user') | list %}
{{- '<s>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}$call{%- endfor %}
        {{- '</s>' }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS]' + $output + '[/TOOL_RESULTS]' }}
    {%- else %}
        {%- if tools and message is sameas $told %}
            {{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST]' }}
        {%- for part in message.content %}
            {{- '[BEGIN_AUDIO][AUDIO]' if part.type == 'audio' else part.text }}
        {%- endfor %}
        {{- '[/INST]' }}
    {%- endif %}
{%- endfor %}
""")
LISTED = """
    {{- '[TOOL_CALLS][' if loop.first else ', ' }}
    {{- dict(name=call.function.name, arguments=call.function.arguments, id=call.id) | tojson }}
    {{- ']' if loop.last }}
"""
NAMED = """
    {{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}
"""
WITH_ID = "message.tool_call_id + '[TOOL_CONTENT]' + message.content"
FUNCTIONS = {
    "v7": {"call": LISTED, "output": WITH_ID, "told": "turns[-1]"},
    "v11": {
        "call": NAMED.replace("[ARGS]", "[CALL_ID]' + call.id + '[ARGS]"),
        "output": WITH_ID,
        "told": "turns[-1]",
    },
    "v13": {"call": NAMED, "output": "message.content", "told": "turns[0]"},
}
"""How functions are written, by the version of the tokenizer."""


class Voxtral(Architecture):
    """375 tokens for any sound up to 30 s, whose silence its encoder hears too.

    It was trained without instructions beside audio: they go before the first turn.
    """

    model_type = "voxtral"
    library_class = "VoxtralForConditionalGeneration"
    ends = ("</s>",)

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        version = json.loads((folder / TEKKEN).read_text())["config"]["version"]
        # Not AutoTokenizer, which for this file wants a package that nothing else needs.
        tokenizer = TokenizersBackend(  # type: ignore[no-untyped-call]
            tokenizer_object=MistralConverter(str(folder / TEKKEN)).converted(),
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            chat_template=TEMPLATE.substitute(FUNCTIONS[version]),
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
