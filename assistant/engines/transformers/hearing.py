"""Sounds on their way into a prompt: those that several prompts wait for are encoded together.

A batch is a step of the worker's, for which others' tokens wait. So it takes no more audio than a
single sound may have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from assistant.engines.transformers.memory import Conversation
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.prompt import MAX_AUDIO_S, AudioSpan, RenderedPrompt
from audio_io.pcm import SAMPLE_RATE_HZ

# Of a batch, in which every sound takes as long as the longest.
MAX_BATCH_SAMPLES = round(MAX_AUDIO_S * SAMPLE_RATE_HZ)

logger = logging.getLogger(__name__)


class Hearing:
    """Encodes the sounds of all prompts that are being answered, each once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._asked: list[Sounds] = []
        """Of each prompt; the one that was asked first comes first."""

    def of(self, conversation: Conversation, prompt: RenderedPrompt) -> Sounds:
        """The sounds of a prompt, until they are closed."""
        sounds = Sounds(self, conversation, prompt)
        self._asked.append(sounds)
        return sounds

    def encode(self, sounds: Sounds, span: AudioSpan) -> None:
        """Encode a sound, and with it what else of this prompt and of others fits."""
        batch = self._batch(sounds, span)
        try:
            self._encode(batch)
        except Exception:
            if len(batch) == 1:
                raise
            # It may have been another's fault.
            logger.exception("%d sounds can't be encoded together; one is alone", len(batch))
            self._encode(batch[:1])

    def dismiss(self, sounds: Sounds) -> None:
        """Nobody waits for these any more."""
        if sounds in self._asked:
            self._asked.remove(sounds)

    def _batch(self, sounds: Sounds, span: AudioSpan) -> list[tuple[Conversation, AudioSpan]]:
        batch = [(sounds.conversation, span)]
        if not self._checkpoint.architecture.encodes_together:
            return batch
        chosen = {(id(sounds.conversation), span.digest)}
        longest = len(span.samples)
        for asked in (sounds, *self._asked):
            for other in asked.missing():
                key, length = (id(asked.conversation), other.digest), len(other.samples)
                fits = (len(batch) + 1) * max(longest, length) <= MAX_BATCH_SAMPLES
                if fits and key not in chosen:
                    batch.append((asked.conversation, other))
                    chosen.add(key)
                    longest = max(longest, length)
        return batch

    def _encode(self, batch: list[tuple[Conversation, AudioSpan]]) -> None:
        encoded = self._checkpoint.encode_audios([span.samples for _, span in batch])
        for (conversation, span), of_one in zip(batch, encoded, strict=True):
            conversation.encoded[span.digest] = of_one


class Sounds:
    """Those of one prompt."""

    def __init__(
        self, hearing: Hearing, conversation: Conversation, prompt: RenderedPrompt
    ) -> None:
        self.conversation = conversation
        self._hearing = hearing
        self._spans = prompt.audio

    def is_encoded(self, span: AudioSpan) -> bool:
        return span.digest in self.conversation.encoded

    def encoded(self, span: AudioSpan) -> torch.Tensor:
        """What stands for a sound between the embeddings of text: (tokens, width)."""
        # In a pause, another reply of this conversation may have dropped it.
        if not self.is_encoded(span):
            self._hearing.encode(self, span)
        return self.conversation.encoded[span.digest]

    def missing(self) -> Iterator[AudioSpan]:
        """What is yet to be encoded."""
        return (span for span in self._spans if not self.is_encoded(span))

    def close(self) -> None:
        """The prompt is in, or nobody waits for it any more. Idempotent."""
        self._hearing.dismiss(self)
