"""Replies of one model, driven step by step as its worker drives them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median

import numpy as np
import torch

from assistant.engines.engine import ReplyOptions
from assistant.engines.transformers.fast_steps import fast_steps
from assistant.engines.transformers.generation import Generation, Generator
from assistant.engines.transformers.memory import Memory
from assistant.engines.transformers.memory_plan import Plan, page_tokens
from assistant.engines.transformers.messages import Generate, audio_of
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import StepKind, TransformersSettings
from assistant.engines.transformers.slots import Pool
from assistant.prompt import AudioPart, Message, Prompt, TextPart
from audio_io.pcm import SAMPLE_RATE_HZ

STEPS = 24
"""Decode steps that a figure is the median of."""
_session_ids = count(1)


class Bench:
    """Replies of one model, step by step."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        settings = TransformersSettings(device="auto", temperature=0, cache_gb=1)
        self.generator = Generator(checkpoint, settings)

    @contextmanager
    def room_for(
        self, conversations: int, tokens: int, steps: StepKind = "recorded"
    ) -> Iterator[None]:
        """Memory for that much, given back in the end; on a GPU, with steps of that kind."""
        device = self.checkpoint.device.type
        size = page_tokens(device, tokens)
        pages = conversations * -(-tokens // size)
        pool = Pool(self.checkpoint, Plan(pages, size, tokens))
        self.generator.memory = Memory(pool)
        if device == "cuda":
            batches = sorted({1, 4, conversations})
            self.generator.decode_step = fast_steps(self.checkpoint, pool, steps, batches)
        try:
            yield
        finally:
            del self.generator.memory, pool
            self.generator.decode_step = None
            free_memory()

    @contextmanager
    def library_attention(self) -> Iterator[None]:
        """For the library's own `generate`, which attends over its own cache."""
        self.checkpoint.use_attention("sdpa")
        try:
            yield
        finally:
            pool = self.generator.memory.pool
            pool.use(pool.attention)

    def start(self, prompt: Prompt, tokens: int, session_id: int | None = None) -> Generation:
        """A reply of so many tokens, nothing of which is computed yet."""
        if session_id is None:
            session_id = next(_session_ids)
        conversation = self.generator.memory.of(session_id)
        conversation.samples |= {d: part.samples for d, part in audio_of(prompt).items()}
        options = ReplyOptions(max_output_tokens=tokens)
        asked_s = time.monotonic()
        request = Generate(0, session_id, prompt, options, side=False, asked_s=asked_s)
        return self.generator.start(request, conversation)

    def begun(self, prompt: Prompt, tokens: int, session_id: int | None = None) -> Generation:
        """The same with its prompt taken in."""
        reply = self.start(prompt, tokens, session_id)
        while not reply.going:
            reply.step()
        return reply

    def step(self, replies: list[Generation]) -> float:
        """A decode step for all of them together, in s."""
        begun = time.perf_counter()
        for reply, token in zip(replies, self.generator.tokens_after(replies), strict=True):
            reply.take(token)
        return time.perf_counter() - begun

    def step_ms(self, replies: list[Generation]) -> float:
        """The median of several, after a few to get going."""
        times = [self.step(replies) for _ in range(STEPS + 3)]
        return median(times[3:]) * 1000


def free_memory() -> None:
    """Give back that of pools which nobody has any more."""
    # A pool and its layers know each other.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def text_of(tokens: int, letter: str = "a") -> Prompt:
    """A prompt of about so many tokens: this tokenizer makes one of each letter."""
    return Prompt((Message("", "user", (TextPart(letter * (tokens - 50)),)),))


def utterance(seed: int, duration_s: float) -> AudioPart:
    noise = np.random.default_rng(seed).normal(0, 3000, round(duration_s * SAMPLE_RATE_HZ))
    return AudioPart.of(noise.astype(np.int16))
