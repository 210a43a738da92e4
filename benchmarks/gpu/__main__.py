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
import time
from statistics import median

import torch

from assistant.conversation import Message, Prompt, TextPart
from assistant.engines.engine import Text
from assistant.engines.transformers.attention import SLOTTED
from assistant.engines.transformers.model import Checkpoint
from benchmarks.gpu.bench import STEPS, Bench, text_of, utterance
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


def generate_ms(checkpoint: Checkpoint, conversations: int, context: int) -> float:
    """Time per step of `generate` with as many rows of equal length."""
    ids = torch.full((conversations, context), 65, device=checkpoint.device)
    # Ours attends over slots, its own over its own cache.
    checkpoint.use_attention("sdpa")

    def seconds(tokens: int) -> float:
        return seconds_of(
            lambda: checkpoint.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens
            )
        )

    seconds(2)
    per_step = (seconds(1 + STEPS) - seconds(1)) / STEPS
    checkpoint.use_attention(SLOTTED)
    return per_step * 1000


def one(bench: Bench, bounds: Bounds, scale: Scale) -> None:
    """One conversation, short and long."""
    for context in scale.contexts:
        with bench.room_for(1, context + 100):
            reply = bench.begun(text_of(context), STEPS + 10)
            ms = bench.step_ms([reply])
            reply.close()
        theirs = generate_ms(bench.checkpoint, 1, context)
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
        name = f"a step of {conversations} together, {context} tokens of context each"
        bound = bounds.step_ms(*[context] * conversations)
        row(name, ms, bound, generate_ms(bench.checkpoint, conversations, context))
        print(
            f"|   tokens per second in all | {conversations / ms * 1000:.0f}, alone "
            f"{1000 / alone_ms:.0f}, {conversations * alone_ms / ms:.1f} times as many | | | |"
        )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    device = torch.device(parser.parse_args().device)
    scale = REAL if device.type == "cuda" else SMALL
    checkpoint = random_checkpoint(scale, device)
    bench, bounds = Bench(checkpoint), measured_bounds(checkpoint)
    print(f"{checkpoint.device_name}; {machine()}")
    print(
        f"{checkpoint.model.num_parameters() / 1e9:.2f} billion parameters; "
        f"{bounds.bytes_per_s / 1e9:.0f} GB/s, {bounds.operations_per_s / 1e12:.2f} TFLOP/s"
    )
    print("\n| ms | ours | bound | ratio | `generate` |\n|---|---|---|---|---|")
    one(bench, bounds, scale)
    many(bench, bounds, scale)
    if device.type == "cpu":
        # In bf16 a sum depends on how many rows there are.
        together_and_in_turn(bench, scale.batches[0])
    turn(bench, bounds, scale)
    gap(bench, bounds)


if __name__ == "__main__":
    main()
