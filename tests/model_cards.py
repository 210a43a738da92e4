"""The references of the other architectures: as `tests/model_card.py` is for Qwen2-Audio.

Each is the library's own model with `generate`, on the whole conversation from scratch. Where the
library's processor needs packages that nothing else does, the prompt is written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, VoxtralForConditionalGeneration

from assistant.conversation import AudioPart, Message, Prompt, TextPart
from tests.model_card import ModelCard, audios
from tests.tiny_architectures import TEKKEN_CONTROL, TEKKEN_SPECIALS, build_voxtral


class _Card(ModelCard):
    """One whose prompt is made here."""

    model_class: Any

    def __init__(self, folder: Path) -> None:
        self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        self.model: Any = self.model_class.from_pretrained(folder).eval()
        self.end_ids = set(self.model.generation_config.eos_token_id)
        self.inputs = lru_cache(maxsize=4)(self.make_inputs)  # type: ignore[method-assign]

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """What the model is given."""
        raise NotImplementedError


class VoxtralCard(_Card):
    """As `mistral_common` writes a prompt: instructions beside audio, which it refuses, apart."""

    model_class = VoxtralForConditionalGeneration

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        control = {token: id_ for id_, token in TEKKEN_CONTROL.items()}
        ids = [control["<s>"]]
        instructions: list[int] = []
        for message in prompt.messages:
            match message.role:
                case "system":
                    instructions += _bytes(message) + [TEKKEN_SPECIALS + ord("\n")] * 2
                case "user":
                    ids += [control["[INST]"], *instructions]
                    for part in message.parts:
                        if isinstance(part, AudioPart):
                            ids += [control["[BEGIN_AUDIO]"], *[control["[AUDIO]"]] * 375]
                        else:
                            ids += _bytes(Message("", "user", (part,)))
                    ids += [control["[/INST]"]]
                    instructions = []
                case "assistant":
                    ids += [*_bytes(message), control["</s>"]]
        inputs = {"input_ids": torch.tensor([ids])}
        if heard := audios(prompt):
            inputs["input_features"] = self.extractor(
                heard, sampling_rate=16_000, return_tensors="pt"
            )["input_features"]
        return inputs


def _bytes(message: Message) -> list[int]:
    texts = (part.text for part in message.parts if isinstance(part, TextPart))
    return [TEKKEN_SPECIALS + byte for byte in "".join(texts).encode()]


MODELS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], ModelCard]]] = {
    "voxtral": (build_voxtral, VoxtralCard),
}
"""How a tiny checkpoint is built, and its reference, by architecture."""
