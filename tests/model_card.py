"""The reference: a reply made the way that the model card and the task page print it.

The whole conversation goes through the processor and `generate`, from scratch, greedy unless the
checkpoint says otherwise. Only the audio is given as samples where they download it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, BatchFeature, Qwen2AudioForConditionalGeneration

from assistant.prompt import AudioPart, Message, Part, Prompt, TextPart


class ModelCard:
    """A checkpoint, used as its authors show."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = self.load(folder).eval()
        self.end_ids = set(self.model.generation_config.eos_token_id)

    def load(self, folder: Path) -> Any:
        """The library's model."""
        return Qwen2AudioForConditionalGeneration.from_pretrained(folder)

    def text(self, prompt: Prompt) -> str:
        """The conversation as the chat template writes it."""
        return self.processor.apply_chat_template(
            conversation(prompt), add_generation_prompt=True, tokenize=False
        )

    def inputs(self, prompt: Prompt) -> BatchFeature:
        """What the model is given."""
        return self.processor(
            text=self.text(prompt),
            audio=audios(prompt) or None,
            sampling_rate=self.processor.feature_extractor.sampling_rate,
            return_tensors="pt",
            padding=True,
        )

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The conversation's token ids."""
        return tuple(self.inputs(prompt)["input_ids"][0].tolist())

    def generate(self, prompt: Prompt, max_new_tokens: int, **options: Any) -> Any:
        """What `generate` returns, with the logits (1, vocabulary) of each new token."""
        return self.model.generate(
            **self.inputs(prompt),
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )

    def reply_ids(self, prompt: Prompt, max_new_tokens: int, **options: Any) -> tuple[int, ...]:
        """The reply's token ids, with the one that ends it, if it came to that."""
        generated = self.generate(prompt, max_new_tokens, **options).sequences[0]
        return tuple(generated[len(self.prompt_ids(prompt)) :].tolist())

    def reply(self, prompt: Prompt, max_new_tokens: int) -> str:
        """The reply's text."""
        ids = self.reply_ids(prompt, max_new_tokens)
        return self.processor.batch_decode(
            [ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )[0]

    @torch.inference_mode()
    def logits(self, prompt: Prompt) -> torch.Tensor:
        """Of the first token of a reply: float32 (vocabulary,)."""
        return self.model(**self.inputs(prompt)).logits[0, -1]


def conversation(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt in the form that the task page prints; the audio is named by its digest."""
    return [_message(message) for message in prompt.messages]


def audios(prompt: Prompt) -> list[NDArray[np.float32]]:
    """Its audio in order, as `librosa.load` returns it: float32 (n,) within ±1, 16 kHz."""
    parts = (part for message in prompt.messages for part in message.parts)
    return [
        part.samples.astype(np.float32) / 32_768 for part in parts if isinstance(part, AudioPart)
    ]


def _message(message: Message) -> dict[str, Any]:
    if message.role == "user":
        return {"role": "user", "content": [_content(part) for part in message.parts]}
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    return {"role": message.role, "content": "".join(texts)}


def _content(part: Part) -> dict[str, str]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case AudioPart(digest=digest):
            return {"type": "audio", "audio_url": digest}
