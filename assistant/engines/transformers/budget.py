"""How much memory a device has for conversations, found out by computing, and set aside.

How it is divided is `memory_plan.py`'s matter; who holds what of it, `memory.py`'s.
"""

from __future__ import annotations

import gc

import numpy as np
import torch

from assistant.engines.transformers.failures import told
from assistant.engines.transformers.memory import Memory
from assistant.engines.transformers.memory_plan import (
    GPU_PAGE_TOKENS,
    MIN_TOKENS,
    Plan,
    budget_bytes,
    plan,
    workspace_bytes,
)
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.prompt import MAX_AUDIO_S
from assistant.engines.transformers.room import free_bytes
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Pool, Slot
from assistant.engines.transformers.step_sizes import recordings
from assistant.errors import EngineError
from audio_io.pcm import SAMPLE_RATE_HZ


def make_memory(checkpoint: Checkpoint, settings: TransformersSettings) -> Memory:
    """As much as there is room for. Raises EngineError where that is too little."""
    device, shape = checkpoint.device, checkpoint.cache_shape
    budget = _budget_bytes(checkpoint, settings)
    divided = plan(budget, shape, checkpoint.context_tokens, device.type)
    if divided is not None:
        try:
            return Memory(Pool(checkpoint, divided))
        except RuntimeError as error:
            # What torch raises on any device where there is too little after all: by `cache_gb`,
            # or by another program that was faster.
            raise EngineError(
                f"For {budget / 1e9:.2g} GB of conversations, {device} has too little memory: "
                f"{told(error)}. Name less as model.transformers.cache_gb."
            ) from error
    tokens = max(0, int(budget // shape.bytes_per_token))
    least = MIN_TOKENS * shape.bytes_per_token / 1e9
    if settings.cache_gb is not None:
        raise EngineError(
            f"model.transformers.cache_gb is {settings.cache_gb:g}, in which {tokens} tokens "
            f"fit. A conversation takes {least:.2g} at least."
        )
    raise EngineError(
        f"For conversations, {device} has {max(0, budget) / 1e9:.1f} GB of memory to spare, in "
        f"which {tokens} tokens fit; {least:.2g} GB are the least. End what else uses it, or take "
        "a larger machine."
    )


def _budget_bytes(checkpoint: Checkpoint, settings: TransformersSettings) -> float:
    """For pages. Raises EngineError where computing leaves nothing."""
    if settings.cache_gb is not None:
        return settings.cache_gb * 1e9
    device, context = checkpoint.device, checkpoint.context_tokens
    workspace = 0
    if device.type == "cuda":
        text, shape = checkpoint.model.config.get_text_config(), checkpoint.cache_shape
        chunk = min(settings.prefill_chunk_tokens, context)
        try:
            measured = measured_bytes(checkpoint, chunk)
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"Beside the weights, {device} has too little memory to compute with, for "
                f"{MAX_AUDIO_S:g} s of audio or for {chunk} tokens of a prompt (model.transformers."
                f"prefill_chunk_tokens): {told(error)}."
            ) from error
        workspace = workspace_bytes(
            shape,
            context=context,
            queries_per_key=text.num_attention_heads // min(of.heads for of in shape.layers),
            vocabulary=checkpoint.vocabulary,
            measured=measured,
            recordings=recordings(context) if settings.steps == "recorded" else 0,
        )
    return budget_bytes(device.type, free_bytes(device), workspace)


def measured_bytes(checkpoint: Checkpoint, chunk_tokens: int) -> int:
    """What a GPU takes for the longest sound, or for a part of a prompt, whichever is more."""
    pages = -(-chunk_tokens // GPU_PAGE_TOKENS)
    pool = Pool(checkpoint, Plan(pages, GPU_PAGE_TOKENS, pages * GPU_PAGE_TOKENS))
    before = torch.cuda.memory_allocated(checkpoint.device)
    torch.cuda.reset_peak_memory_stats(checkpoint.device)
    checkpoint.encode_audio(np.zeros(round(MAX_AUDIO_S * SAMPLE_RATE_HZ), np.int16))
    ids = np.zeros(chunk_tokens, np.int64)
    hidden = Slot(pool).feed(checkpoint.embed(ids.tolist(), [True] * chunk_tokens), ids)
    checkpoint.logits(hidden)
    taken = torch.cuda.max_memory_allocated(checkpoint.device) - before
    # The pool and its layers know each other.
    del pool, hidden
    gc.collect()
    torch.cuda.empty_cache()
    return taken
