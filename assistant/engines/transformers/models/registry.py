"""The models that are served, by what their `config.json` calls them."""

from __future__ import annotations

from typing import Any

from assistant.engines.transformers.models.architecture import Architecture
from assistant.engines.transformers.models.flamingo import AudioFlamingo3, MusicFlamingo
from assistant.engines.transformers.models.gemma3n import Gemma3n
from assistant.engines.transformers.models.gemma4 import Gemma4, Gemma4Unified
from assistant.engines.transformers.models.granite_speech import GraniteSpeech
from assistant.engines.transformers.models.other import Other
from assistant.engines.transformers.models.phi4 import Phi4Multimodal
from assistant.engines.transformers.models.qwen2_audio import Qwen2Audio
from assistant.engines.transformers.models.qwen_omni import Qwen3Omni, Qwen25Omni
from assistant.engines.transformers.models.voxtral import Voxtral

_ENTRIES: tuple[Architecture, ...] = (
    Qwen2Audio(),
    Qwen25Omni(),
    AudioFlamingo3(),
    MusicFlamingo(),
    Phi4Multimodal(),
    Gemma3n(),
    Gemma4(),
    Gemma4Unified(),
    GraniteSpeech(),
    Qwen3Omni(),
    Voxtral(),
)
ARCHITECTURES = {entry.model_type: entry for entry in _ENTRIES}


def architecture_of(config: Any) -> Architecture:
    """The entry of a model; where there is none, the way that is common to most.

    Raises EngineError where that can't be.
    """
    return ARCHITECTURES.get(config.model_type) or Other(config)
