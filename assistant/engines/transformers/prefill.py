"""A prompt on its way into a slot, in bounded steps."""

from __future__ import annotations

from collections.abc import Generator as Steps

import torch

from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers.memory import Conversation
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.prompt import AudioSpan, RenderedPrompt
from assistant.engines.transformers.slots import Slot

Events = list[ReplyEvent]
"""What a step of a reply has to tell."""


class Prefill:
    """Computes what of a prompt isn't there yet."""

    def __init__(
        self, checkpoint: Checkpoint, conversation: Conversation, prompt: RenderedPrompt
    ) -> None:
        self._checkpoint = checkpoint
        self._conversation = conversation
        self._prompt = prompt

    def steps(self, slot: Slot, chunk_tokens: int) -> Steps[Events, int | None, torch.Tensor]:
        """Bring `slot`, which holds a beginning of the prompt, to its end.

        Each step takes in a chunk, or encodes an audio part, and has nothing to tell. Returns the
        hidden state of the last token, (1, width).
        """
        prompt = self._prompt
        while True:
            start = slot.length
            end = min(start + chunk_tokens, len(prompt.ids))
            for span in prompt.audio:
                if span.start < end and span.end > start and not self._is_encoded(span):
                    self._encoded(span)
                    yield []
            hidden = slot.feed(self._embed(start, end), prompt.units[start:end])
            if end == len(prompt.ids):
                return hidden
            yield []

    def _is_encoded(self, span: AudioSpan) -> bool:
        return span.digest in self._conversation.encoded

    def _encoded(self, span: AudioSpan) -> torch.Tensor:
        # In a pause, another reply of this conversation may have dropped it.
        if not self._is_encoded(span):
            encoded = self._checkpoint.encode_audio(span.samples)
            self._conversation.encoded[span.digest] = encoded
        return self._conversation.encoded[span.digest]

    def _embed(self, start: int, end: int) -> torch.Tensor:
        """The embeddings of the prompt's tokens from `start` to `end`: (n, width)."""
        ids = self._prompt.ids[start:end]
        embeddings = self._checkpoint.embed(ids, [self._prompt.hears] * len(ids))
        for span in self._prompt.audio:
            first, last = max(span.start, start), min(span.end, end)
            if first < last:
                encoded = self._encoded(span)[first - span.start : last - span.start]
                embeddings[first - start : last - start] = encoded
        return embeddings
