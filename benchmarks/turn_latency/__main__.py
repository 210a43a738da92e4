"""How long a turn waits for its first token, as the conversation grows.

    python -m benchmarks.turn_latency [--turns 20] [--rounds 3]

The same spoken conversation three ways: with the transformers engine, which keeps what it has
computed; the model card's way, which gives the whole conversation to `generate` each time; and
`transformers serve`, asked over HTTP. All on the CPU in float32, greedy, on checkpoints of
Qwen2-Audio's architecture with random weights: the tiny one of the tests, and one of 87 million
parameters. Times run from the end of the turn, when the audio is there, to the first piece of text;
each is the median of several conversations. Then what a token costs beside the model's forward, and
what eight who are being answered notice of another who says 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from transformers import TextIteratorStreamer

from assistant.prompt import Prompt
from benchmarks.machine import machine
from benchmarks.turn_latency import loop_cost
from benchmarks.turn_latency.arithmetic import operations
from benchmarks.turn_latency.engine import (
    AHEAD_TOKENS,
    CONVERSATIONS,
    Gaps,
    converse,
    engine,
    interrupted,
)
from benchmarks.turn_latency.serve import ServeError, served
from benchmarks.turn_latency.spoken import REPLY_TOKENS, SPEECH_S, Spoken
from tests.model_card import ModelCard
from tests.tiny_models import MID_SIZE, TINY, answers_for_ever, build_qwen2_audio

SHOWN = (1, 5, 10, 20)


class _FirstToken(TextIteratorStreamer):
    """Notes when the first token came: the streamer's own queue holds back words."""

    time_s = 0.0

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt and not self.time_s:
            self.time_s = time.perf_counter()
        super().put(value)


def cards_first_text_ms(card: ModelCard, prompt: Prompt) -> float:
    """One reply the model card's way, streamed by the library's own streamer."""
    begun = time.perf_counter()
    streamer = _FirstToken(card.processor.tokenizer, skip_prompt=True)
    options = {"max_new_tokens": REPLY_TOKENS, "streamer": streamer}
    inputs = card.inputs(prompt)
    thread = threading.Thread(target=card.model.generate, kwargs={**inputs, **options})
    thread.start()
    thread.join()
    return (streamer.time_s - begun) * 1000


@dataclass(frozen=True)
class Row:
    """One turn, by all, in ms."""

    number: int
    ours: float
    begun_ahead: float
    card: float
    serve: float | None
    operations: float
    """What ours computes at least."""


async def rows(folder: Path, turns: int, rounds: int) -> tuple[list[Row], Gaps]:
    """The shown turns, and what happens with many conversations."""
    async with engine(folder) as running:
        # Before any figure counts, everybody has answered once.
        await converse(running, 1, seed=500)
        conversations = [await converse(running, turns, seed=50 * n) for n in range(rounds)]
        gaps = await interrupted(running)
    shown = [number for number in SHOWN if number <= turns]
    of_turn = {number: [turns[number - 1] for turns in conversations] for number in shown}
    prompts = {number: [turn.prompt for turn in turns] for number, turns in of_turn.items()}
    card = ModelCard(folder)
    cards_first_text_ms(card, Spoken().ask())
    cards = {n: median([cards_first_text_ms(card, p) for p in prompts[n]]) for n in shown}
    serves = await _serve(folder, prompts)
    return [
        Row(
            number=n,
            ours=median([turn.first_text_ms for turn in of_turn[n]]),
            begun_ahead=median([turn.next_text_ms for turn in of_turn[n]]),
            card=cards[n],
            serve=serves.get(n),
            operations=operations(card.model, of_turn[n][0].report, SPEECH_S),
        )
        for n in shown
    ], gaps


async def _serve(folder: Path, prompts: dict[int, list[Prompt]]) -> dict[int, float]:
    try:
        async with served(folder) as server:
            await server.first_text_ms(Spoken().ask())
            return {
                number: median([await server.first_text_ms(prompt) for prompt in asked])
                for number, asked in prompts.items()
            }
    except ServeError as error:
        print(f"\n`transformers serve` can't be compared with: {error}")
        return {}


def report(name: str, rows: list[Row], gaps: Gaps, costs: tuple[loop_cost.Cost, ...]) -> None:
    """Print what was measured with one model."""
    print(f"\n{name}: end of turn to first text, {SPEECH_S:.0f} s of audio a turn, ms")
    print("| turn | ours | model card's | `transformers serve` | ours, begun in the pause* |")
    print("|---|---|---|---|---|")
    for row in rows:
        serve = "-" if row.serve is None else f"{row.serve:.0f}"
        print(
            f"| {row.number} | {row.ours:.0f} | {row.card:.0f} | {serve} | {row.begun_ahead:.1f} |"
        )
    print(f"* {AHEAD_TOKENS} tokens are there when the turn ends; this is when the next one comes")
    first, last = rows[0], rows[-1]
    print(
        f"turn {last.number} / turn {first.number}: ours {last.ours / first.ours:.2f}, "
        f"the card's {last.card / first.card:.1f}"
        + (f", serve's {last.serve / first.serve:.1f}" if last.serve and first.serve else "")
        + f"; ours has to multiply {last.operations / first.operations:.2f} times as much"
    )
    mine, theirs = costs
    print(
        f"CPU time per token outside the forward: ours {mine.outside_ms:.2f} ms, `generate` with "
        f"its streamer {theirs.outside_ms:.2f} ms, ratio {mine.outside_ms / theirs.outside_ms:.2f} "
        f"(forward {mine.forward_ms:.2f} and {theirs.forward_ms:.2f} ms)"
    )
    print(
        f"{CONVERSATIONS} conversations, a token of each every {gaps.usual_ms:.1f} ms; while "
        f"another says 30 s, the longest gap is {gaps.longest_ms:.0f} ms; it waits "
        f"{gaps.wait_ms:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("tiny", TINY), ("87 million parameters", MID_SIZE)):
            checkpoint = build_qwen2_audio(Path(folder) / name.replace(" ", "-"), size)
            # Replies of one length, whoever makes them.
            answers_for_ever(checkpoint)
            costs = asyncio.run(loop_cost.ours(checkpoint)), loop_cost.generate(checkpoint)
            table, gaps = asyncio.run(rows(checkpoint, options.turns, options.rounds))
            report(name, table, gaps, costs)


if __name__ == "__main__":
    main()
