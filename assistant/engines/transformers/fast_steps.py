"""How decode steps are computed on a GPU: as fast as this one computes them right.

Nothing is taken on trust: the kernel for pages has to give what the library's own attention gives,
and the recorded step what the kernel gives. What fails, or computes something else, is not used,
and the log says why. The plain way always works.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from assistant.engines.transformers.attention import PAGED, SLOTTED
from assistant.engines.transformers.decode_step import DecodeStep
from assistant.engines.transformers.failures import is_sticky, told
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import StepKind
from assistant.engines.transformers.slots import Pool, Slot
from assistant.engines.transformers.step_sizes import BATCHES

logger = logging.getLogger(__name__)

# Of the norm of the logits. In bf16 two right ways differ by hundredths; a page too many, or one
# of another conversation, makes all of the difference.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
# Every vocabulary has so many tokens of text.
IDS = 200
STEPS = 3


def fast_steps(
    checkpoint: Checkpoint, pool: Pool, steps: StepKind, batches: Sequence[int] = BATCHES
) -> DecodeStep | None:
    """The fastest steps that work, up to those that are wanted; None: the pool's own.

    The pool, of which nothing may be in use yet, attends by what goes with them from now on. Of
    `batches`, the largest is for 3 slots at least, on which they are tried.
    """
    if steps == "plain":
        return None
    expected = _logits(checkpoint, pool, pool.logits_after)
    step = DecodeStep(checkpoint, pool, batches)
    try:
        pool.use(PAGED)
        _compare(checkpoint, _logits(checkpoint, pool, step.logits_after), expected)
    except Exception as error:
        if is_sticky(error):
            raise
        pool.use(SLOTTED)
        logger.warning("Attention goes the plain way, which is slower: %s.", told(error))
        return None
    if steps == "recorded" and not _is_recorded(step, checkpoint, pool, expected):
        # Not before, since an error holds on to what it was raised in.
        step.forget()
    return step


def _is_recorded(
    step: DecodeStep, checkpoint: Checkpoint, pool: Pool, expected: torch.Tensor
) -> bool:
    begun = time.monotonic()
    try:
        step.record()
        _compare(checkpoint, _logits(checkpoint, pool, step.logits_after), expected)
    except Exception as error:
        if is_sticky(error):
            raise
        logger.warning("Decode steps aren't recorded, and slower: %s.", told(error))
        return False
    logger.info("Decode steps are recorded, in %.1f s.", time.monotonic() - begun)
    return True


class StepOfSome(Protocol):
    """As `DecodeStep.logits_after`."""

    def __call__(
        self, slots: Sequence[Slot], ids: Sequence[int], hears: Sequence[bool]
    ) -> torch.Tensor: ...


def _logits(checkpoint: Checkpoint, pool: Pool, step: StepOfSome) -> torch.Tensor:
    """Of a few steps of some slots, one of which comes to its second page in them.

    float32 (steps, slots, vocabulary).
    """
    size, free = pool.page_tokens, pool.pages.free
    held = []
    for tokens in (3, size - 1, 2 * size + 5):
        pages = pool.pages_for(tokens + STEPS)
        if tokens + STEPS <= pool.capacity and pages <= free:
            free -= pages
            held.append(tokens)
    numbers = np.random.default_rng(0)
    slots = [Slot(pool) for _ in held]
    try:
        for slot, tokens in zip(slots, held, strict=True):
            # In two parts, of which the second attends to the first.
            for part in np.array_split(numbers.integers(0, IDS, tokens), 2):
                slot.feed(checkpoint.embed(part.tolist(), [False] * len(part)), part)
        steps = [
            step(slots, numbers.integers(0, IDS, len(slots)).tolist(), [False] * len(slots)).clone()
            for _ in range(STEPS)
        ]
        return torch.stack(steps)
    finally:
        for slot in slots:
            slot.cut(0)


def _compare(checkpoint: Checkpoint, logits: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises RuntimeError where they differ by more than numbers of its kind may."""
    difference = float((logits - expected).norm() / expected.norm())
    if not difference < TOLERANCE[checkpoint.model.dtype]:
        raise RuntimeError(f"here, it computes something else (by {difference:.0%})")
