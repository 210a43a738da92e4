"""A prompt on its way into a slot, in bounded steps."""

from __future__ import annotations

from collections.abc import Generator as Steps

import torch

from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers.hearing import Sounds
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.prompt import RenderedPrompt
from assistant.engines.transformers.slots import Slot

Events = list[ReplyEvent]
"""What a step of a reply has to tell."""


class Prefill:
    """Computes what of a prompt isn't there yet."""

    def __init__(self, checkpoint: Checkpoint, prompt: RenderedPrompt, sounds: Sounds) -> None:
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._sounds = sounds

    def steps(self, slot: Slot, chunk_tokens: int) -> Steps[Events, int | None, torch.Tensor]:
        """Bring `slot`, which holds a beginning of the prompt, to its end.

        Each step takes in a chunk, or encodes audio parts, and has nothing to tell. Returns the
        hidden states of its last tokens, (1, n, width).
        """
        prompt, sounds = self._prompt, self._sounds
        while True:
            start = slot.length
            end = min(start + chunk_tokens, len(prompt.ids))
            for span in prompt.audio:
                if span.start < end and span.end > start and not sounds.is_encoded(span):
                    sounds.encoded(span)
                    yield []
            hidden = slot.feed(self._embed(start, end), prompt.units[start:end])
            if end == len(prompt.ids):
                return hidden
            yield []

    def _embed(self, start: int, end: int) -> torch.Tensor:
        """The embeddings of the prompt's tokens from `start` to `end`: (n, width)."""
        ids = self._prompt.ids[start:end]
        embeddings = self._checkpoint.embed(ids, [self._prompt.hears] * len(ids))
        for span in self._prompt.audio:
            first, last = max(span.start, start), min(span.end, end)
            if first < last:
                encoded = self._sounds.encoded(span)[first - span.start : last - span.start]
                embeddings[first - start : last - start] = encoded
        return embeddings
