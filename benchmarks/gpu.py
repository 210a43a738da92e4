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
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from assistant.conversation import AudioPart, Message, Prompt, TextPart
from assistant.engines.engine import ReplyOptions, Text
from assistant.engines.transformers.generation import Generation, Generator
from assistant.engines.transformers.memory import Memory
from assistant.engines.transformers.messages import Generate, audio_of
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import ATTENTION, Slots
from audio_io.pcm import SAMPLE_RATE_HZ
from benchmarks.machine import machine
from tests.tiny_models import CONTROL_TOKENS, byte_level_tokenizer

CONTEXT_TOKENS = 8192
STEPS = 24
"""Decode steps that a figure is the median of."""
UTTERANCE_S = 5.0
LONG_UTTERANCE_S = 30.0
REPLY_TOKENS = 60
_session_ids = count(1)


@dataclass(frozen=True)
class Scale:
    """How large the model is, and how much is asked of it."""

    text: dict[str, int]
    audio: dict[str, int]
    contexts: tuple[int, ...]
    """Tokens of one conversation alone."""
    batches: tuple[int, ...]
    """Conversations at once."""
    batch_context: int
    """Tokens of each of them."""
    turns: int


# The configuration of Qwen/Qwen2-Audio-7B-Instruct.
REAL = Scale(
    text={
        "vocab_size": 156_032,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    audio={"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20}
    | {"encoder_ffn_dim": 5120},
    contexts=(1024, 8000),
    batches=(16, 32),
    batch_context=2048,
    turns=20,
)
SMALL = Scale(
    text={
        "vocab_size": 8192,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
    audio={"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6}
    | {"encoder_ffn_dim": 1536},
    contexts=(256, 1024),
    batches=(8,),
    batch_context=256,
    turns=5,
)


def random_checkpoint(scale: Scale, device: torch.device) -> Checkpoint:
    """A model of these dimensions, made on its device."""
    tokenizer = byte_level_tokenizer()
    control = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
    config = Qwen2AudioConfig(
        audio_config=scale.audio | {"num_mel_bins": 128},
        text_config=scale.text | {"model_type": "qwen2", "max_position_embeddings": CONTEXT_TOKENS},
        audio_token_index=control["<|AUDIO|>"],
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with device:
        model = Qwen2AudioForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    ends = [control["<|endoftext|>"], control["<|im_end|>"]]
    # No reply ends before its limit.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=ends[0], suppress_tokens=ends
    )
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128), tokenizer)
    return Checkpoint(
        model=model.eval().requires_grad_(False),
        processor=processor,
        generation=model.generation_config,
        context_tokens=CONTEXT_TOKENS,
        device=device,
    )


@dataclass(frozen=True)
class Bounds:
    """What the machine and the model allow at best."""

    checkpoint: Checkpoint
    bytes_per_s: float
    operations_per_s: float

    @cached_property
    def _weights(self) -> int:
        # Of the embeddings a step reads a few rows alone.
        model = self.checkpoint.model
        parts = (model.base_model.language_model.layers, model.get_output_embeddings())
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    def step_ms(self, *contexts: int) -> float:
        """A decode step for conversations of so many tokens: weights and caches read once."""
        weights = self._weights * self.checkpoint.model.dtype.itemsize
        caches = sum(contexts) * self.checkpoint.cache_shape.bytes_per_token
        return (weights + caches) / self.bytes_per_s * 1000

    def first_token_ms(self, new_tokens: int, context: int) -> float:
        """An utterance heard, its tokens taken in."""
        model = self.checkpoint.model.base_model
        encoder = sum(p.numel() for p in model.audio_tower.layers.parameters())
        positions = model.audio_tower.config.max_source_positions
        operations = 2 * (encoder * positions + self._weights * new_tokens)
        return max(self.step_ms(context), operations / self.operations_per_s * 1000)


def measured_bounds(checkpoint: Checkpoint) -> Bounds:
    """What this device moves and multiplies per second, the best of several."""
    on_gpu = checkpoint.device.type == "cuda"
    kind: Any = {"device": checkpoint.device, "dtype": checkpoint.model.dtype}
    source = torch.ones(2**30 if on_gpu else 2**26, **kind)
    target = torch.empty_like(source)
    copied_s = min(_seconds(lambda: target.copy_(source)) for _ in range(5))
    size = 8192 if on_gpu else 1024
    square = torch.ones((size, size), **kind)
    multiplied_s = min(_seconds(lambda: square @ square) for _ in range(5))
    return Bounds(checkpoint, 2 * source.nbytes / copied_s, 2 * size**3 / multiplied_s)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


class Bench:
    """Replies of one model, step by step."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        settings = TransformersSettings(device="auto", temperature=0, cache_gb=1)
        self.generator = Generator(checkpoint, settings)

    @contextmanager
    def room_for(self, conversations: int, tokens: int) -> Iterator[None]:
        """Slots for that much, given back in the end."""
        self.generator.memory = Memory(Slots(self.checkpoint, conversations, tokens))
        try:
            yield
        finally:
            del self.generator.memory
            # Slots and their layers know each other.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

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
        while not reply.fed:
            reply.step()
        return reply

    def step(self, replies: list[Generation]) -> float:
        """A decode step for all of them together, in s."""
        begun = time.perf_counter()
        for reply, logits in zip(replies, self.generator.logits_after(replies), strict=True):
            reply.step(logits)
        return time.perf_counter() - begun

    def step_ms(self, replies: list[Generation]) -> float:
        """The median of several, after a few to get going."""
        times = [self.step(replies) for _ in range(STEPS + 3)]
        return median(times[3:]) * 1000


def text_of(tokens: int, letter: str = "a") -> Prompt:
    """A prompt of about so many tokens: this tokenizer makes one of each letter."""
    return Prompt((Message("", "user", (TextPart(letter * (tokens - 50)),)),))


def utterance(seed: int, duration_s: float) -> AudioPart:
    noise = np.random.default_rng(seed).normal(0, 3000, round(duration_s * SAMPLE_RATE_HZ))
    return AudioPart.of(noise.astype(np.int16))


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
        return _seconds(
            lambda: checkpoint.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens
            )
        )

    seconds(2)
    per_step = (seconds(1 + STEPS) - seconds(1)) / STEPS
    checkpoint.use_attention(ATTENTION)
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
                    logits = bench.generator.logits_after(replies)
                    for reply, its_logits, its_text in zip(replies, logits, heard, strict=True):
                        its_text += [e for e in reply.step(its_logits) if isinstance(e, Text)]
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
            assert reply.fed
            context = reply.fed[0].length
            bound = bounds.first_token_ms(round(UTTERANCE_S * 25), context)
            ids, times = [reply.fed[1]], []
            for _ in range(STEPS):
                times.append(bench.step([reply]))
                ids.append(reply.fed[1])
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
    bound = bounds.first_token_ms(0, 1024)
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
