"""What weights of fewer bits take, how fast they answer, and by how much they answer otherwise.

    python -m benchmarks.gpu.quantised [--device cpu]

The model is that of `benchmarks.gpu`, with its random weights, which pass on every difference
enlarged. Logits are compared with those of the whole weights, over all tokens of random prompts.
Kinds that have no kernels on this device are rounded alike, by what torchao has for any device, and
aren't timed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import get_args

import torch
from torchao.quantization import Float8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup, quantize_
from transformers import DynamicCache

from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.quantised import Kind, bytes_of, check_available, quantise
from assistant.errors import EngineError
from benchmarks.gpu.bench import STEPS, Bench, text_of
from benchmarks.gpu.model import REAL, SMALL, Scale, random_checkpoint
from benchmarks.machine import machine

PROMPTS, PROMPT_TOKENS = 8, 64
ROUNDED = {
    "int4": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(128)),
    "fp8": Float8WeightOnlyConfig(set_inductor_config=False),
}


@dataclass(frozen=True)
class Difference:
    """Of logits from those of the whole weights."""

    largest: float
    relative: float
    """The difference's norm over that of the logits."""
    divergence: float
    """Kullback and Leibler's, of the tokens' probabilities: nats, the mean over tokens."""
    same_choice: float
    """Share of tokens after which both find the same one the likeliest."""


def difference(exact: torch.Tensor, other: torch.Tensor) -> Difference:
    """Of float32 (tokens, vocabulary)."""
    logs, log = exact.log_softmax(-1), other.log_softmax(-1)
    return Difference(
        largest=(other - exact).abs().max().item(),
        relative=((other - exact).norm() / exact.norm()).item(),
        divergence=(logs.exp() * (logs - log)).sum(-1).mean().item(),
        same_choice=(other.argmax(-1) == exact.argmax(-1)).float().mean().item(),
    )


def logits_of(checkpoint: Checkpoint) -> torch.Tensor:
    """After each token of random prompts: float32 (tokens, vocabulary)."""
    # Ours attends over slots; here there are none.
    checkpoint.use_attention("sdpa")
    numbers = torch.Generator().manual_seed(0)
    shape = (PROMPTS, PROMPT_TOKENS)
    ids = torch.randint(checkpoint.vocabulary, shape, generator=numbers).to(checkpoint.device)
    positions = torch.arange(PROMPT_TOKENS, device=checkpoint.device).expand(shape)
    hidden = checkpoint.hidden_states(
        checkpoint.architecture.embed(checkpoint.model, ids), positions, DynamicCache()
    )
    return checkpoint.logits(hidden.flatten(0, 1)[:, None])


def step_times_ms(checkpoint: Checkpoint, scale: Scale) -> list[float]:
    """A decode step of one conversation, and of many, with the shortest context of the scale."""
    bench, context = Bench(checkpoint), scale.contexts[0]
    times = []
    for conversations in (1, scale.batches[0]):
        with bench.room_for(conversations, context + 100):
            replies = [bench.begun(text_of(context), STEPS + 10) for _ in range(conversations)]
            times.append(bench.step_ms(replies))
            for reply in replies:
                reply.close()
    return times


def quantised(kind: Kind, scale: Scale, device: torch.device) -> tuple[Checkpoint, bool]:
    """The model in that kind, and whether with kernels for it."""
    checkpoint = random_checkpoint(scale, device)
    try:
        check_available(kind, device)
    except EngineError:
        quantize_(checkpoint.architecture.decoder(checkpoint.model).layers, ROUNDED[kind])
        return checkpoint, False
    quantise(checkpoint.architecture, checkpoint.model, kind, device)
    return checkpoint, True


def gigabytes(checkpoint: Checkpoint) -> float:
    return sum(map(bytes_of, checkpoint.model.parameters())) / 1e9


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    device = torch.device(parser.parse_args().device)
    scale = REAL if device.type == "cuda" else SMALL
    whole = random_checkpoint(scale, device)
    print(f"{whole.device_name}; {machine()}\n")
    print(
        f"| weights | GB | a step alone | {scale.batches[0]} together "
        "| logits: largest difference | relative | KL | same choice |"
    )
    print("|---|---|---|---|---|---|---|---|")
    exact, whole_ms = logits_of(whole), step_times_ms(whole, scale)
    alone, together = whole_ms
    print(f"| full | {gigabytes(whole):.2f} | {alone:.1f} ms | {together:.1f} ms | | | | |")
    for kind in get_args(Kind):
        checkpoint, runs = quantised(kind, scale, device)
        told = difference(exact, logits_of(checkpoint))
        cells = ["rounded alike", "", ""]
        if runs:
            ratios = zip(step_times_ms(checkpoint, scale), whole_ms, strict=True)
            cells = [f"{gigabytes(checkpoint):.2f}", *(f"x {ms / of:.2f}" for ms, of in ratios)]
        print(
            f"| {kind} | {' | '.join(cells)} | {told.largest:.3f} | {told.relative:.2%} "
            f"| {told.divergence:.1e} | {told.same_choice:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
