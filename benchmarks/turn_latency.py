"""How long a turn waits for its first token, as the conversation grows.

    python -m benchmarks.turn_latency [--turns 20]

The same spoken conversation twice: with the transformers engine, which keeps what it has computed,
and the model card's way, which gives the whole conversation to `generate` each time. Both on the
CPU in float32, greedy, on checkpoints of Qwen2-Audio's architecture with random weights: the tiny
one of the tests, and one of 87 million parameters. Times run from the end of the turn, when the
audio is there, to the first piece of text. Also the time per token of a long reply, without the
first.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TextIteratorStreamer

from assistant.conversation import AudioPart, Message, Prompt, TextPart
from assistant.engines.engine import ModelSession, ReplyOptions, Text
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.model import Checkpoint
from audio_io.pcm import SAMPLE_RATE_HZ
from benchmarks.machine import machine
from tests.model_card import ModelCard
from tests.tiny_models import MID_SIZE, TINY, build_qwen2_audio

SPEECH_S = 2
REPLY_TOKENS = 24
LONG_REPLY_TOKENS = 200
SHOWN = (1, 5, 10, 20)


@dataclass(frozen=True)
class Turn:
    """ms."""

    first_text_ms: float
    per_token_ms: float
    tokens: int
    outside_ms: float = 0.0
    """Of a token's time, what isn't the model's forward."""

    def without(self, forward_s: list[float], calls: int) -> Turn:
        """With the time outside of the forward, which takes so many calls a token."""
        later = max(self.tokens - 1, 1)
        forward_ms = sum(forward_s[-calls * later :]) * 1000 / later
        return replace(self, outside_ms=self.per_token_ms - forward_ms)


def utterance(seed: int) -> AudioPart:
    """Noise, new for every seed: what is heard changes nothing about the time."""
    noise = np.random.default_rng(seed).normal(0, 3000, SPEECH_S * SAMPLE_RATE_HZ)
    return AudioPart.of(noise.astype(np.int16))


async def ours(session: ModelSession, prompt: Prompt, tokens: int) -> tuple[Turn, TextPart]:
    """One reply of the engine, and its text with its ids."""
    begun = time.perf_counter()
    times: list[float] = []
    texts: list[Text] = []
    async for event in session.reply(prompt, ReplyOptions(max_output_tokens=tokens)):
        if isinstance(event, Text):
            times.append(time.perf_counter())
            texts.append(event)
    ids = tuple(id_ for text in texts for id_ in text.ids)
    part = TextPart("".join(text.text for text in texts), ids)
    return _turn(begun, times), part


def cards(card: ModelCard, prompt: Prompt, tokens: int) -> Turn:
    """One reply the model card's way, streamed by the library's own streamer."""
    begun = time.perf_counter()
    # Passes on each token at once: its `text` queue holds pieces, whole words at a time.
    streamer = _Times(card.processor.tokenizer, skip_prompt=True)
    inputs = card.inputs(prompt)
    options = {"max_new_tokens": tokens, "streamer": streamer}
    thread = threading.Thread(target=card.model.generate, kwargs={**inputs, **options})
    thread.start()
    for _ in streamer:
        pass
    thread.join()
    return _turn(begun, streamer.times)


@contextmanager
def timed(owner: Any, *names: str) -> Iterator[list[float]]:
    """The seconds that each call of these methods of `owner` takes."""
    seconds: list[float] = []
    originals = {name: getattr(owner, name) for name in names}

    def timing(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - begun)

        return timed_call

    for name, original in originals.items():
        setattr(owner, name, timing(original))
    try:
        yield seconds
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


class _Times(TextIteratorStreamer):
    """Notes when each token came."""

    def __init__(self, tokenizer: object, skip_prompt: bool) -> None:
        super().__init__(tokenizer, skip_prompt=skip_prompt)
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.times.append(time.perf_counter())
        super().put(value)


def _turn(begun: float, times: list[float]) -> Turn:
    per_token = (times[-1] - times[0]) / max(len(times) - 1, 1)
    return Turn((times[0] - begun) * 1000, per_token * 1000, len(times))


async def measure(folder: Path, turns: int) -> list[tuple[Turn, Turn]]:
    """Each turn ours and the card's, and in the end a long reply of both."""
    card = ModelCard(folder)
    settings = TransformersSettings(device="cpu", worker="thread")
    engine = TransformersEngine(str(folder), settings)
    await engine.start()
    session = await engine.open_session()
    said: list[Message] = []
    results = []
    try:
        for number in range(turns + 1):
            tokens = REPLY_TOKENS if number < turns else LONG_REPLY_TOKENS
            said.append(Message(f"user_{number}", "user", (utterance(number),)))
            prompt = Prompt(tuple(said))
            with timed(Checkpoint, "embed", "hidden_states", "logits") as seconds:
                turn, reply = await ours(session, prompt, tokens)
            turn = turn.without(seconds, calls=3)
            with timed(card.model, "forward") as seconds:
                theirs = cards(card, prompt, tokens)
            results.append((turn, theirs.without(seconds, calls=1)))
            said.append(Message(f"reply_{number}", "assistant", (reply,)))
    finally:
        await session.close()
        await engine.close()
    return results


def report(name: str, results: list[tuple[Turn, Turn]]) -> None:
    """Print a table of one model."""
    *turns, long = results
    print(f"\n{name}: end of turn to first text, {SPEECH_S} s of audio a turn, ms")
    print("| turn | ours | model card's | ratio |\n|---|---|---|---|")
    for number in SHOWN:
        if number <= len(turns):
            mine, theirs = (turn.first_text_ms for turn in turns[number - 1])
            print(f"| {number} | {mine:.0f} | {theirs:.0f} | {theirs / mine:.1f} |")
    growth = [turns[-1][i].first_text_ms / turns[0][i].first_text_ms for i in (0, 1)]
    print(f"last turn / first: ours {growth[0]:.2f}, the card's {growth[1]:.2f}")
    mine, theirs = (turn.per_token_ms for turn in long)
    print(f"per token of a long reply: ours {mine:.2f} ms, `generate` {theirs:.2f} ms")
    mine, theirs = (turn.outside_ms for turn in long)
    print(f"of it outside the forward: {mine:.2f} and {theirs:.2f} ms, ratio {mine / theirs:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("tiny", TINY), ("87 million parameters", MID_SIZE)):
            checkpoint = build_qwen2_audio(Path(folder) / name.replace(" ", "-"), size)
            report(name, asyncio.run(measure(checkpoint, turns)))


if __name__ == "__main__":
    main()
