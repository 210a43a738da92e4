"""What a token costs beside the model's forward: our loop, and `generate` with its streamer.

Both decode in a thread, and pass each token on to another. What counts is the time that the
decoding thread computes, by its own clock, from the end of one forward to the beginning of the
next: choosing the token, its text, handing it over, looking for messages, whose turn it is, the
tensors that the next forward is given. What the receiving thread does isn't counted on either side.
The forward is the same work on both: embedding, decoder stack with its cache, head.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import TextIteratorStreamer

from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.model import Checkpoint
from benchmarks.turn_latency.engine import listen
from benchmarks.turn_latency.spoken import Spoken
from tests.model_card import ModelCard

TOKENS = 200


@dataclass(frozen=True)
class Cost:
    """CPU time of the decoding thread per token, ms."""

    outside_ms: float
    forward_ms: float


Span = tuple[float, float]


async def ours(folder: Path) -> Cost:
    """Of a long reply."""
    settings = TransformersSettings(device="cpu", worker="thread", cache_gb=0.5)
    engine = TransformersEngine(str(folder), settings)
    await engine.start()
    try:
        with spans(Checkpoint, "step") as calls:
            await listen(await engine.open_session(), Spoken().ask(), TOKENS)
        return _cost(calls)
    finally:
        await engine.close()


def generate(folder: Path) -> Cost:
    """Of the same, by the library's own loop."""
    card = ModelCard(folder)
    streamer = TextIteratorStreamer(card.processor.tokenizer, skip_prompt=True)
    options = {"max_new_tokens": TOKENS, "streamer": streamer}
    inputs = card.inputs(Spoken().ask())
    with spans(card.model, "forward") as calls:
        thread = threading.Thread(target=card.model.generate, kwargs={**inputs, **options})
        thread.start()
        for _ in streamer:
            pass
        thread.join()
    return _cost(calls)


@contextmanager
def spans(owner: Any, name: str) -> Iterator[list[Span]]:
    """When each call of that method of `owner` begins and ends, in s of its thread's clock."""
    calls: list[Span] = []
    original = getattr(owner, name)

    @wraps(original)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.thread_time()
        try:
            return original(*args, **kwargs)
        finally:
            calls.append((begun, time.thread_time()))

    setattr(owner, name, timed)
    try:
        yield calls
    finally:
        setattr(owner, name, original)


def _cost(calls: list[Span]) -> Cost:
    # All but the first token, which is the prompt's.
    later = calls[-(TOKENS - 1) :]
    outside = sum(begun - ended for (_, ended), (begun, _) in pairwise(later))
    forward = sum(ended - begun for begun, ended in later)
    return Cost(outside * 1000 / (TOKENS - 1), forward * 1000 / (TOKENS - 1))
