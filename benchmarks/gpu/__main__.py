"""What one accelerator does for one conversation and for many, beside what its memory allows.

    python -m benchmarks.gpu [--device cpu]

On a GPU: random weights at Qwen2-Audio-7B's real dimensions in bf16, the same arithmetic and bytes
as the real ones. On the CPU: the same at a small size in float32. Each figure stands beside its
bound: the bytes that must be read over the memory's bandwidth or, for a prompt, the operations over
the rate of multiplication, whichever takes longer; both rates are measured first. Replies are
driven through the worker's own steps; protocol and sockets are no part of it.
"""

from __future__ import annotations

import argparse
import logging
import time
from statistics import median
from typing import get_args

import torch

from assistant.engines.engine import Text
from assistant.engines.transformers.budget import make_memory
from assistant.engines.transformers.memory_plan import TURN_S
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import StepKind, TransformersSettings
from assistant.prompt import Message, Prompt, TextPart
from audio_io.pcm import SAMPLE_RATE_HZ
from benchmarks.gpu.bench import STEPS, Bench, free_memory, text_of, utterance
from benchmarks.gpu.bounds import Bounds, measured_bounds, seconds_of
from benchmarks.gpu.model import CONTEXT_TOKENS, REAL, SMALL, Scale, random_checkpoint
from benchmarks.machine import machine

UTTERANCE_S = 5.0
LONG_UTTERANCE_S = 30.0
REPLY_TOKENS = 60


def row(name: str, ms: float, bound_ms: float, generate_ms: float | None = None) -> None:
    """A line of the table."""
    beside = "" if generate_ms is None else f"{generate_ms:.1f}"
    print(f"| {name} | {ms:.1f} | {bound_ms:.1f} | {ms / bound_ms:.2f} | {beside} |", flush=True)


def generate_ms(bench: Bench, conversations: int, context: int) -> float:
    """Time per step of `generate` with as many rows of equal length."""
    checkpoint = bench.checkpoint
    ids = torch.full((conversations, context), 65, device=checkpoint.device)

    def seconds(tokens: int) -> float:
        return seconds_of(
            lambda: checkpoint.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens
            )
        )

    with bench.library_attention():
        seconds(2)
        return (seconds(1 + STEPS) - seconds(1)) / STEPS * 1000


def one(bench: Bench, bounds: Bounds, scale: Scale) -> None:
    """One conversation, short and long."""
    for context in scale.contexts:
        with bench.room_for(1, context + 100):
            reply = bench.begun(text_of(context), STEPS + 10)
            ms = bench.step_ms([reply])
            reply.close()
            theirs = generate_ms(bench, 1, context)
        row(f"a token, alone, {context} tokens of context", ms, bounds.step_ms(context), theirs)


def many(bench: Bench, bounds: Bounds, scale: Scale) -> None:
    """Many conversations at once."""
    context = scale.batch_context
    for conversations in scale.batches:
        with bench.room_for(conversations, context + 100):
            replies = [bench.begun(text_of(context), 2 * STEPS + 20) for _ in range(conversations)]
            alone_ms = bench.step_ms(replies[:1])
            ms = bench.step_ms(replies)
            for reply in replies:
                reply.close()
            theirs = generate_ms(bench, conversations, context)
        name = f"a step of {conversations} together, {context} tokens of context each"
        row(name, ms, bounds.step_ms(*[context] * conversations), theirs)
        print(
            f"|   tokens per second in all | {conversations / ms * 1000:.0f}, alone "
            f"{1000 / alone_ms:.0f}, {conversations * alone_ms / ms:.1f} times as many | | | |"
        )


def kept(checkpoint: Checkpoint) -> str:
    """What the engine would keep of conversations, in memory that it does set aside for that."""
    pool = make_memory(checkpoint, TransformersSettings()).pool
    return pool.plan.report(checkpoint.audio_tokens(TURN_S * SAMPLE_RATE_HZ))


def ways(bench: Bench, bounds: Bounds, scale: Scale) -> None:
    """What each way of taking steps costs, and how long the start of each takes."""
    context, many = scale.contexts[0], scale.batches[-1]
    for kind in get_args(StepKind):
        begun = time.perf_counter()
        with bench.room_for(many, context + 100, kind):
            ready_s = time.perf_counter() - begun
            replies = [bench.begun(text_of(context), 2 * STEPS + 20) for _ in range(many)]
            alone_ms, ms = bench.step_ms(replies[:1]), bench.step_ms(replies)
            for reply in replies:
                reply.close()
        row(f"steps {kind}, ready in {ready_s:.1f} s: alone", alone_ms, bounds.step_ms(context))
        row(f"steps {kind}: {many} together", ms, bounds.step_ms(*[context] * many))


def together_and_in_turn(bench: Bench, conversations: int) -> None:
    """The same replies one after the other and at once, to prompts of different lengths."""
    prompts = [text_of(60 + 40 * n, chr(ord("a") + n)) for n in range(conversations)]
    with bench.room_for(conversations, 100 + 40 * conversations + STEPS):
        said: list[list[list[Text]]] = []
        spent: list[float] = []
        for size in (1, conversations):
            seconds = 0.0
            texts: list[list[Text]] = []
            for first in range(0, conversations, size):
                replies = [bench.begun(p, STEPS) for p in prompts[first : first + size]]
                heard: list[list[Text]] = [[] for _ in replies]
                while not replies[0].done:
                    begun = time.perf_counter()
                    tokens = bench.generator.tokens_after(replies)
                    for reply, token, its_text in zip(replies, tokens, heard, strict=True):
                        its_text += [e for e in reply.take(token) if isinstance(e, Text)]
                    seconds += time.perf_counter() - begun
                for reply in replies:
                    reply.close()
                texts += heard
            said.append(texts)
            spent.append(seconds)
    same = "the same tokens" if said[0] == said[1] else "NOT the same tokens"
    print(
        f"|   {conversations} in turn against together | {spent[0] / spent[1]:.2f} times the "
        f"time, {same} | | | |"
    )


def turn(bench: Bench, bounds: Bounds, scale: Scale) -> None:
    """The last turn of a long spoken conversation."""
    with bench.room_for(2, CONTEXT_TOKENS):
        said: list[Message] = []
        first_ms = hit_ms = bound = 0.0
        for number in range(scale.turns):
            said.append(Message("", "user", (utterance(number, UTTERANCE_S),)))
            declared = Prompt(tuple(said))
            begun = time.perf_counter()
            reply = bench.begun(declared, REPLY_TOKENS, session_id=0)
            first_ms = (time.perf_counter() - begun) * 1000
            assert reply.going
            context = reply.going[0].length
            bound = bounds.first_token_ms(UTTERANCE_S, round(UTTERANCE_S * 25), context)
            ids, times = [reply.going[1]], []
            for _ in range(STEPS):
                times.append(bench.step([reply]))
                ids.append(reply.going[1])
            hit_ms = median(times) * 1000
            reply.close()
            said.append(Message("", "assistant", (TextPart("", tuple(ids)),)))
        name = f"first token of turn {scale.turns}, {UTTERANCE_S:.0f} s"
        row(f"{name}, nothing begun ahead", first_ms, bound)
        row(f"{name}, begun in the pause: one step", hit_ms, bounds.step_ms(context))


def gap(bench: Bench, bounds: Bounds) -> None:
    """One is being answered while another has said 30 s: the worker's steps, in turns."""
    with bench.room_for(2, 2048):
        running = bench.begun(text_of(1024), CONTEXT_TOKENS)
        bench.step_ms([running])
        said = (utterance(1000, LONG_UTTERANCE_S),)
        other = bench.start(Prompt((Message("", "user", said),)), 1)
        longest = 0.0
        while not other.done:
            begun = time.perf_counter()
            other.step()
            bench.step([running])
            longest = max(longest, time.perf_counter() - begun)
        for reply in (running, other):
            reply.close()
    bound = bounds.first_token_ms(LONG_UTTERANCE_S, 0, 1024)
    row("longest gap in a reply while another's 30 s are taken in", longest * 1000, bound)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    device = torch.device(parser.parse_args().device)
    # Where a step isn't recorded, or a kernel not used, it is said why.
    logging.basicConfig(format="%(message)s")
    scale = REAL if device.type == "cuda" else SMALL
    checkpoint = random_checkpoint(scale, device)
    print(f"{checkpoint.device_name}, which keeps {kept(checkpoint)}; {machine()}")
    free_memory()
    bench, bounds = Bench(checkpoint), measured_bounds(checkpoint)
    print(
        f"{checkpoint.model.num_parameters() / 1e9:.2f} billion parameters; "
        f"{bounds.bytes_per_s / 1e9:.0f} GB/s, {bounds.operations_per_s / 1e12:.2f} TFLOP/s"
    )
    print("\n| ms | ours | bound | ratio | `generate` |\n|---|---|---|---|---|")
    one(bench, bounds, scale)
    many(bench, bounds, scale)
    if device.type == "cuda":
        # A CPU knows the plain way alone.
        ways(bench, bounds, scale)
    else:
        # In bf16 a sum depends on how many rows there are.
        together_and_in_turn(bench, scale.batches[0])
    turn(bench, bounds, scale)
    gap(bench, bounds)


if __name__ == "__main__":
    main()
