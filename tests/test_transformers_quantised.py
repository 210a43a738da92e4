"""Weights of fewer bits: what they take, what they change, and that they change nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis.stateful import run_state_machine_as_test
from safetensors.torch import load_file, save_file

from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.memory import Conversation
from assistant.engines.transformers.messages import audio_of
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.models.architecture import Architecture
from assistant.engines.transformers.models.qwen2_audio import Qwen2Audio
from assistant.engines.transformers.prefill import Prefill
from assistant.engines.transformers.quantised import Kind, bytes_of, quantise, saved_bytes
from assistant.engines.transformers.slots import Slot
from assistant.errors import EngineError
from assistant.prompt import Prompt
from tests.dialogue import prompt, user
from tests.model_card import ModelCard
from tests.model_cards import MODELS
from tests.test_transformers_session import (
    LIMITS,
    ON_CPU,
    SOUND,
    Conversations,
    check,
    events_of,
    generator_of,
    go_on,
    said,
    start,
)
from tests.tiny_models import build_qwen2_audio

INT8 = ON_CPU.model_copy(update={"weights": "int8"})
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_audio": build_qwen2_audio,
    **{name: build for name, (build, _) in MODELS.items()},
}
EXPERTS = "qwen3_omni_moe"
INSTALLED = find_spec("torchao")
if INSTALLED:
    from torchao.quantization import Int8Tensor
QUESTION = prompt(user(SOUND[:9000], "What was said, and by whom?"))

pytestmark = pytest.mark.skipif(
    INSTALLED is None,
    reason="torchao is missing; pip install -e '.[quantised]'",
)


@pytest.fixture(scope="module", params=[name for name in BUILDERS if name != EXPERTS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the architecture."""
    return BUILDERS[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def full(folder: Path) -> Checkpoint:
    return load(str(folder), ON_CPU)


@pytest.fixture(scope="module")
def quantised(folder: Path) -> Checkpoint:
    return load(str(folder), INT8)


@torch.inference_mode()
def logits_of(checkpoint: Checkpoint) -> torch.Tensor:
    """Of the first token of the answer to QUESTION: (1, vocabulary)."""
    generator = generator_of(checkpoint)
    audio = {digest: part.samples for digest, part in audio_of(QUESTION).items()}
    rendered = generator.renderer.render(QUESTION, audio)
    sounds = generator.hearing.of(Conversation(audio), rendered)
    steps = Prefill(checkpoint, rendered, sounds).steps(Slot(generator.memory.pool), 64)
    while True:
        try:
            next(steps)
        except StopIteration as last:
            return checkpoint.logits(last.value)


def layers_of(checkpoint: Checkpoint) -> dict[str, torch.nn.Linear]:
    """The linear layers of the model by name."""
    modules = checkpoint.model.named_modules()
    return {name: module for name, module in modules if isinstance(module, torch.nn.Linear)}


def is_int8(layer: torch.nn.Linear) -> bool:
    return isinstance(layer.weight, Int8Tensor)


def test_the_layers_of_the_language_model_are_in_int8_and_nothing_else(
    quantised: Checkpoint,
) -> None:
    language = quantised.architecture.decoder(quantised.model).layers.modules()
    of_it = {id(module) for module in language}
    layers = layers_of(quantised)
    assert any(map(is_int8, layers.values()))
    assert all(is_int8(layer) == (id(layer) in of_it) for layer in layers.values())
    assert not isinstance(quantised.model.get_input_embeddings().weight, Int8Tensor)


def test_a_layer_differs_by_less_than_a_hundredth(full: Checkpoint, quantised: Checkpoint) -> None:
    for name, layer in layers_of(quantised).items():
        exact = layers_of(full)[name]
        heard = torch.from_numpy(np.random.default_rng(0).normal(size=(5, exact.in_features)))
        expected = exact(heard.float())
        error = ((layer(heard.float()) - expected).norm() / expected.norm()).item()
        assert 0 < error < 0.01 if is_int8(layer) else error == 0


def test_logits_differ_a_little(full: Checkpoint, quantised: Checkpoint) -> None:
    """With random weights, which pass on every difference enlarged."""
    exact, rounded = logits_of(full), logits_of(quantised)
    assert 0.99 < torch.cosine_similarity(exact, rounded).item() < 1 - 1e-6


def test_they_take_what_was_said_before_they_were_loaded(
    full: Checkpoint, quantised: Checkpoint
) -> None:
    def taken(checkpoint: Checkpoint) -> int:
        return sum(map(bytes_of, checkpoint.model.parameters()))

    saved = saved_bytes(full.architecture, full.model, torch.float32, "int8")
    assert taken(full) - taken(quantised) == saved > 0


def test_it_is_told_where_the_model_is(full: Checkpoint, quantised: Checkpoint) -> None:
    assert full.device_name == "cpu in float32"
    assert quantised.device_name == "cpu in float32, weights in int8"


def test_replies_of_several_take_steps_together(quantised: Checkpoint) -> None:
    asked = [QUESTION, prompt(user(SOUND[4000:20_000])), prompt(user(SOUND[:3000], "Hello!"))]
    alone = [said(events_of(start(generator_of(quantised), each))) for each in asked]
    generator = generator_of(quantised, pages=len(asked))
    replies = [start(generator, each, session_id=number) for number, each in enumerate(asked)]
    events: list[list[ReplyEvent]] = [[] for _ in asked]
    while open_ := [reply for reply in replies if not reply.done]:
        for reply, news in zip(open_, go_on(generator, open_), strict=True):
            events[replies.index(reply)] += news
    assert [said(each) for each in events] == alone


class OneLayer(Architecture):
    """A model that is one linear layer."""

    def decoder(self, model: Any) -> Any:
        return SimpleNamespace(layers=model)


@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
@pytest.mark.parametrize(("inputs", "outputs"), [(4096, 11_008), (11_008, 4096)])
def test_each_kind_takes_what_was_said(
    kind: Kind, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen2-Audio's layers, without their numbers, as a Hopper GPU would keep them."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda _: None)
    numbers: Any = {"dtype": torch.bfloat16, "device": "meta"}
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=False, **numbers))
    whole = bytes_of(model[0].weight)
    saved = saved_bytes(OneLayer(), model, torch.bfloat16, kind)
    quantise(OneLayer(), model, kind, torch.device("meta"))
    assert bytes_of(model[0].weight) == whole - saved
    assert saved / whole > {"int8": 0.49, "int4": 0.72, "fp8": 0.49}[kind]


@pytest.mark.slow
def test_whatever_happens_replies_are_those_of_the_library(tiny_qwen2_audio: Path) -> None:
    """Which is given the same weights: all else is as exact as ever."""
    card = ModelCard(tiny_qwen2_audio)
    quantise(Qwen2Audio(), card.model, "int8", torch.device("cpu"))

    class OfThese(Conversations):
        @staticmethod
        def check(generator: Generator, declared: Prompt, events: list[ReplyEvent]) -> None:
            check(card, declared, events)

    OfThese.checkpoint = load(str(tiny_qwen2_audio), INT8)
    run_state_machine_as_test(OfThese, settings=LIMITS)


def test_memory_is_asked_for_as_much_as_they_take(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.engines.transformers.room.free_bytes", lambda device: 600_000)
    with pytest.raises(EngineError, match=r"take 0\.7 MB of memory"):
        load(str(tiny_qwen2_audio), ON_CPU)
    load(str(tiny_qwen2_audio), INT8)


def test_too_little_memory_on_the_way(
    tiny_qwen2_audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are whole there, and of another kind than in their file."""
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "checkpoint")
    weights = folder / "model.safetensors"
    halved = {name: tensor.bfloat16() for name, tensor in load_file(weights).items()}
    save_file(halved, weights, {"format": "pt"})
    monkeypatch.setattr("assistant.engines.transformers.room.free_bytes", lambda device: 600_000)
    way = (
        r"On their way to cpu, the weights of .* take 0\.7 MB of this computer's own memory, which"
    )
    with pytest.raises(EngineError, match=way):
        load(str(folder), INT8)


def test_experts_are_not_taken(tmp_path: Path) -> None:
    folder = BUILDERS[EXPERTS](tmp_path)
    with pytest.raises(EngineError, match=r"33% could be in int8: .* experts .* Leave out model\."):
        load(str(folder), INT8)


def test_layers_of_other_widths_are_not_taken(tiny_qwen2_audio: Path) -> None:
    model = load(str(tiny_qwen2_audio), ON_CPU).model
    with pytest.raises(EngineError, match=r"\d+% could be in int4: .* layers of other widths"):
        saved_bytes(Qwen2Audio(), model, torch.float32, "int4")


@pytest.mark.parametrize(("kind", "capability"), [("int4", r"8\.0"), ("fp8", r"8\.9")])
def test_what_has_no_kernels_here(tiny_qwen2_audio: Path, kind: str, capability: str) -> None:
    settings = ON_CPU.model_copy(update={"weights": kind})
    with pytest.raises(EngineError, match=f"{kind} need .* {capability}, and cpu is none. int8"):
        load(str(tiny_qwen2_audio), settings)


def test_a_missing_package(tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.engines.transformers.quantised.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"needs the package torchao.*\[quantised\]"):
        load(str(tiny_qwen2_audio), INT8)
