"""How a device's memory is divided, by arithmetic; and that what is planned is what there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assistant.engines.transformers.budget import make_memory, measured_bytes
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.memory_plan import (
    MAX_CONVERSATIONS,
    Plan,
    budget_bytes,
    plan,
    workspace_bytes,
)
from assistant.engines.transformers.model import CacheShape, Checkpoint, LayerShape, load
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.step_sizes import recordings
from assistant.errors import EngineError
from tests.test_transformers_session import ON_CPU

GIB = 2**30
# Qwen2-Audio-7B in bf16: 512 KiB a token.
SHAPE = CacheShape((LayerShape(32, 128),) * 32, bytes_per_number=2)
CONTEXT = 8192


def test_an_h200_with_qwen2_audio() -> None:
    """Of the 139 GiB, the weights take 15.6; what computing has taken is assumed."""
    workspace = workspace_bytes(
        SHAPE,
        context=CONTEXT,
        queries_per_key=1,
        vocabulary=156_032,
        measured=GIB // 2,
        recordings=recordings(CONTEXT),
    )
    assert 1.7 * GIB < workspace < 1.9 * GIB
    budget = budget_bytes("cuda", round(123.4 * GIB), workspace)
    divided = plan(budget, SHAPE, CONTEXT, "cuda")
    assert divided == Plan(pages=942, page_tokens=256, capacity=CONTEXT)
    assert divided.report(audio_tokens=125) == (
        "58 conversations of 4,096 tokens (about 20 turns of 5 s), 29 of 8,192"
    )
    # What fits of those that a benchmark asks for: in slots of whole contexts, there were 26.
    assert divided.fitting(2048) == 117


@pytest.mark.parametrize(
    ("gib", "divided", "report"),
    [
        (
            1000,
            Plan(2048, 256, 8192),
            "128 conversations of 4,096 tokens (about 20 turns of 5 s), 64 of 8,192",
        ),
        (4, Plan(31, 256, 7936), "1 conversation of 7,936 tokens (about 39 turns of 5 s)"),
        (0.7, Plan(4, 256, 1024), "1 conversation of 1,024 tokens (about 5 turns of 5 s)"),
        (0.6, None, ""),
    ],
)
def test_more_and_less(gib: float, divided: Plan | None, report: str) -> None:
    assert plan(gib * GIB, SHAPE, CONTEXT, "cuda") == divided
    assert divided is None or divided.report(125) == report


def test_on_a_cpu_a_page_takes_a_conversation() -> None:
    divided = plan(budget_bytes("cpu", 20 * GIB, 0), SHAPE, CONTEXT, "cpu")
    assert divided == Plan(pages=2, page_tokens=CONTEXT, capacity=CONTEXT)
    assert divided.report(125) == "2 conversations of 8,192 tokens (about 40 turns of 5 s)"


@given(
    budget=st.integers(0, 200 * GIB),
    context=st.integers(64, 40_000),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_no_plan_goes_beyond_its_budget(budget: int, context: int, device: str) -> None:
    divided = plan(budget, SHAPE, context, device)
    if divided is None:
        # A page on a GPU is set aside.
        assert budget < (1024 + 256) * SHAPE.bytes_per_token
        return
    spare = 1 if device == "cuda" else 0
    taken = (divided.pages + spare) * divided.page_tokens * SHAPE.bytes_per_token
    assert taken <= budget
    assert min(1024, context) <= divided.capacity <= context
    assert 1 <= divided.fitting(divided.capacity) <= MAX_CONVERSATIONS


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), ON_CPU)


def test_the_report_is_told(checkpoint: Checkpoint) -> None:
    gb = 3.5 * checkpoint.context_tokens * checkpoint.cache_shape.bytes_per_token / 1e9
    generator = Generator(checkpoint, ON_CPU.model_copy(update={"cache_gb": gb}))
    assert generator.info("it").device == (
        "cpu in float32, which keeps 3 conversations of 8,192 tokens (about 40 turns of 5 s)"
    )


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a GPU that isn't there."""
    clocks: dict[str, Callable[..., int | None]] = {
        "memory_allocated": lambda device: 1000,
        "max_memory_allocated": lambda device: 1700,
        "reset_peak_memory_stats": lambda device: None,
        "empty_cache": lambda: None,
    }
    for name, clock in clocks.items():
        monkeypatch.setattr(torch.cuda, name, clock)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens the language model has taken in, at a time."""
    computed: list[int] = []
    real = Checkpoint.hidden_states

    def counting(self: Checkpoint, embeddings: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        computed.append(embeddings.shape[1])
        return real(self, embeddings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoint, "hidden_states", counting)
    return computed


def test_what_computing_takes_is_measured_by_computing(
    checkpoint: Checkpoint, clocks: None, computed: list[int]
) -> None:
    assert measured_bytes(checkpoint, 300) == 700
    assert computed == [300]


@dataclass
class OnGpu:
    """A checkpoint that believes to be on a GPU, until it computes."""

    checkpoint: Checkpoint
    device = torch.device("cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.checkpoint, name)


@pytest.mark.parametrize(("chunk", "measured"), [(300, 300), (1_000_000, 1024)])
def test_no_more_is_measured_than_a_conversation_has(
    tiny_qwen2_audio: Path,
    monkeypatch: pytest.MonkeyPatch,
    clocks: None,
    chunk: int,
    measured: int,
) -> None:
    settings = TransformersSettings(
        device="cpu", max_context_tokens=1024, prefill_chunk_tokens=chunk
    )
    asked: list[int] = []

    def measuring(checkpoint: Checkpoint, tokens: int) -> int:
        asked.append(tokens)
        return 700

    monkeypatch.setattr("assistant.engines.transformers.budget.measured_bytes", measuring)
    monkeypatch.setattr("assistant.engines.transformers.budget.free_bytes", lambda device: 0)
    on_gpu: Any = OnGpu(load(str(tiny_qwen2_audio), settings))
    with pytest.raises(EngineError, match=r"cuda has 0\.0 GB of memory to spare"):
        make_memory(on_gpu, settings)
    assert asked == [measured]


def failing(error: Exception) -> Callable[..., None]:
    def fail(*args: object) -> None:
        raise error

    return fail


def test_what_stands_in_the_way_of_measuring_is_told(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu: Any = OnGpu(checkpoint)
    measuring = "assistant.engines.transformers.budget.measured_bytes"
    monkeypatch.setattr(measuring, failing(torch.OutOfMemoryError("Out of it.\nSee there.")))
    reason = r"to compute with, for 30 s of audio or for 64 tokens of a prompt .*: Out of it\.$"
    with pytest.raises(EngineError, match=reason):
        make_memory(on_gpu, ON_CPU)
    # A failure of another kind isn't taken for that.
    monkeypatch.setattr(measuring, failing(RuntimeError("mat1 and mat2 shapes cannot be")))
    with pytest.raises(RuntimeError, match="mat1"):
        make_memory(on_gpu, ON_CPU)
