"""What is served, told to people: figures and terms as the models' authors publish them.

The hub itself was not asked: docs/models.md says where they are from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from assistant.engines.engine import Mode

_ALL: tuple[Mode, ...] = ("voice_chat", "audio_analysis", "text")


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is served."""

    model: str
    """Its hub id, and after an @ the revision that is needed."""
    architecture: str
    """What its `config.json` calls it."""
    weights_gb: float
    """Memory that its weights take on a GPU, in bf16, without what neither hears nor writes;
    conversations need some beside."""
    context_tokens: int | None
    """Most tokens of a conversation, where `max_context_tokens` allows for as many; None where
    nothing published tells, but the checkpoint alone."""
    licence: str
    languages: str
    """Spoken ones, by ISO 639."""
    modes: tuple[Mode, ...] = _ALL


_QWEN2_AUDIO = "en zh yue de es fr it ja"
_QWEN3_OMNI = "en zh yue ar de es fr id it ja ko ms nl pt ru th tr ur vi"
_VOXTRAL = "en de es fr hi it nl pt"
_NVIDIA = "NVIDIA OneWay, noncommercial"
_MORE = "en and others"
SERVED = (
    Served("Qwen/Qwen2-Audio-7B-Instruct", "qwen2_audio", 16.8, 8192, "Apache-2.0", _QWEN2_AUDIO),
    Served(
        "Qwen/Qwen2-Audio-7B",
        "qwen2_audio",
        16.8,
        8192,
        "Apache-2.0",
        _QWEN2_AUDIO,
        ("continuation",),
    ),
    Served("Qwen/Qwen2.5-Omni-7B", "qwen2_5_omni", 16.5, 32_768, "Apache-2.0", "en zh and others"),
    Served(
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "qwen3_omni_moe",
        62.4,
        65_536,
        "Apache-2.0",
        _QWEN3_OMNI,
    ),
    Served("mistralai/Voxtral-Mini-3B-2507", "voxtral", 9.4, 32_768, "Apache-2.0", _VOXTRAL),
    Served("mistralai/Voxtral-Small-24B-2507", "voxtral", 48.5, 32_768, "Apache-2.0", _VOXTRAL),
    Served("nvidia/audio-flamingo-3-hf", "audioflamingo3", 16.5, None, _NVIDIA, "en"),
    Served("nvidia/music-flamingo-2601-hf", "musicflamingo", 16.5, None, _NVIDIA, "en"),
    # Beyond 4096 of its 131,072 tokens, its positions turn other ways.
    Served(
        "microsoft/Phi-4-multimodal-instruct@refs/pr/70",
        "phi4_multimodal",
        9.4,
        4096,
        "MIT",
        "en zh de es fr it ja pt",
    ),
    Served("google/gemma-3n-E2B-it", "gemma3n", 10.3, 32_768, "Gemma", "en and 34 others"),
    Served("google/gemma-3n-E4B-it", "gemma3n", 15.0, 32_768, "Gemma", "en and 34 others"),
    Served("google/gemma-4-E2B-it", "gemma4", 9.9, 131_072, "Apache-2.0", _MORE),
    Served("google/gemma-4-E4B-it", "gemma4", 15.5, 131_072, "Apache-2.0", _MORE),
    Served("google/gemma-4-12B-it", "gemma4_unified", 23.9, 262_144, "Apache-2.0", _MORE),
    Served(
        "ibm-granite/granite-speech-3.3-8b",
        "granite_speech",
        17.5,
        131_072,
        "Apache-2.0",
        "en de es fr pt",
        ("audio_analysis", "text"),
    ),
)

NOT_SERVED = {
    "Ultravox": "its code comes with each checkpoint, which none of ours runs, and asks for parts "
    "of transformers that release 5 has dropped; a vLLM server runs it",
    "Ichigo": "it hears tokens of a quantiser that is research code of its own",
    "SpeechGPT": "it hears units of a quantiser that is research code of its own",
    "AudioPaLM": "its weights were never published",
}
"""Models that people ask for, and why not."""


def reason_against(architecture: str) -> str | None:
    """Why an architecture is not served, where that is known."""
    for name, reason in NOT_SERVED.items():
        if name.lower() in architecture.lower():
            return f"{name}: {reason}."
    return None


def listing() -> Iterator[str]:
    """The lines of a table, and what is not in it."""
    head = ("model", "architecture", "weights", "context", "licence", "languages", "modes")
    rows = [head, *map(_cells, SERVED)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    yield ""
    yield (
        "Weights are GB on a GPU, in bf16; without one they take twice that. Contexts are tokens; "
        "a conversation has model.transformers.max_context_tokens of them at most. Other models of "
        "the transformers library that take audio and text are tried, and refused where that fails."
    )
    yield "Not served:"
    for name, reason in NOT_SERVED.items():
        yield f"  {name}: {reason}"


def _cells(served: Served) -> tuple[str, ...]:
    *cells, modes = astuple(served)
    return (*("unknown" if cell is None else str(cell) for cell in cells), ", ".join(modes))
