"""Sounds that wait are encoded together where that comes to what each alone does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers.generation import Generation, Generator
from assistant.engines.transformers.hearing import MAX_BATCH_SAMPLES
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.prompt import MIN_AUDIO_SAMPLES
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests import speech
from tests.dialogue import prompt, user
from tests.model_card import ModelCard
from tests.model_cards import MODELS
from tests.test_transformers_session import ON_CPU, check, generator_of, start
from tests.tiny_models import build_qwen2_audio

SOUND = np.resize(speech.prompt("demo-congrats"), 60 * SAMPLE_RATE_HZ)
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_audio": build_qwen2_audio,
    **{name: build for name, (build, _) in MODELS.items()},
}
TOGETHER = {"qwen2_audio", "qwen2_5_omni"}
# Two ways of computing in float32.
TOLERANCE = 1e-5
LENGTHS = st.one_of(
    st.integers(MIN_AUDIO_SAMPLES, 20_000),
    st.integers(MIN_AUDIO_SAMPLES, MAX_BATCH_SAMPLES),
    st.just(MAX_BATCH_SAMPLES),
)
HEARD = st.tuples(st.integers(0, 30 * SAMPLE_RATE_HZ), LENGTHS).map(
    lambda span: SOUND[span[0] : span[0] + span[1]]
)


def seconds(start_s: float, length_s: float) -> Int16Array:
    return SOUND[round(start_s * SAMPLE_RATE_HZ) :][: round(length_s * SAMPLE_RATE_HZ)]


@pytest.fixture(scope="module", params=BUILDERS)
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of every architecture."""
    folder = BUILDERS[request.param](tmp_path_factory.mktemp("models") / request.param)
    checkpoint = load(str(folder), ON_CPU)
    assert checkpoint.architecture.encodes_together == (request.param in TOGETHER)
    return checkpoint


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), ON_CPU)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """How long the sounds of each batch are, in s."""
    batches: list[list[float]] = []
    real = Checkpoint.encode_audios

    def recording(self: Checkpoint, sounds: Sequence[Int16Array]) -> list[torch.Tensor]:
        batches.append([len(samples) / SAMPLE_RATE_HZ for samples in sounds])
        return real(self, sounds)

    monkeypatch.setattr(Checkpoint, "encode_audios", recording)
    return batches


def events_of_all(replies: list[Generation]) -> list[list[ReplyEvent]]:
    """All that they come to, taking steps in turns."""
    events: list[list[ReplyEvent]] = [[] for _ in replies]
    while open_ := [reply for reply in replies if not reply.done]:
        for reply in open_:
            events[replies.index(reply)] += reply.step()
    for reply in replies:
        reply.close()
    return events


@pytest.mark.parametrize("each", [*sorted(TOGETHER), "qwen3_omni_moe"], indirect=True)
@settings(max_examples=10, deadline=None)
@given(st.lists(HEARD, min_size=2, max_size=4))
@torch.inference_mode()
def test_several_at_once_come_to_what_each_alone_does(
    each: Checkpoint, sounds: list[Int16Array]
) -> None:
    for together, samples in zip(each.encode_audios(sounds), sounds, strict=True):
        alone = each.encode_audio(samples)
        assert together.shape == alone.shape
        assert (together - alone).abs().max() <= TOLERANCE * alone.abs().max()
        assert together.untyped_storage().nbytes() == together.nbytes


def test_what_conversations_wait_for_is_encoded_together(
    checkpoint: Checkpoint, tiny_qwen2_audio: Path, batches: list[list[float]]
) -> None:
    card = ModelCard(tiny_qwen2_audio)
    declared = [
        prompt(user(seconds(0, 2))),
        prompt(user(seconds(5, 1), "What was said?", seconds(8, 3))),
        # Already there in this very prompt.
        prompt(user(seconds(20, 1.5), seconds(20, 1.5))),
    ]
    generator = generator_of(checkpoint, pages=3)
    replies = [start(generator, one, session_id=number) for number, one in enumerate(declared)]
    for one, events in zip(declared, events_of_all(replies), strict=True):
        check(card, one, events)
    assert batches == [[2, 1, 3, 1.5]]


def test_a_batch_takes_no_longer_than_the_longest_sound(
    checkpoint: Checkpoint, batches: list[list[float]]
) -> None:
    generator = generator_of(checkpoint, pages=3)
    long = start(generator, prompt(user(seconds(0, 30))), session_id=1, tokens=1)
    # The parts of a long turn.
    parts = prompt(user(seconds(1, 9), seconds(10, 10), seconds(20, 11), seconds(31, 0.5)))
    turn = start(generator, parts, session_id=2, tokens=1)
    events_of_all([long, turn])
    assert batches == [[30], [9, 10, 0.5], [11]]


def test_nobody_hears_for_who_has_gone(checkpoint: Checkpoint, batches: list[list[float]]) -> None:
    generator = generator_of(checkpoint)
    start(generator, prompt(user(seconds(0, 2))), session_id=1).close()
    events_of_all([start(generator, prompt(user(seconds(3, 1))), session_id=2, tokens=1)])
    assert batches == [[1]]


def test_the_fault_of_another_is_not_shared(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Checkpoint.encode_audios

    def failing(self: Checkpoint, sounds: Sequence[Int16Array]) -> list[torch.Tensor]:
        if any(len(samples) == SAMPLE_RATE_HZ for samples in sounds):
            raise RuntimeError("out of luck")
        return real(self, sounds)

    monkeypatch.setattr(Checkpoint, "encode_audios", failing)
    generator = generator_of(checkpoint)
    well = start(generator, prompt(user(seconds(0, 2))), session_id=1, tokens=1)
    ill = start(generator, prompt(user(seconds(3, 1))), session_id=2, tokens=1)
    assert events_of_all([well])[0]
    with pytest.raises(RuntimeError, match="out of luck"):
        ill.step()
    ill.close()


def test_where_that_does_not_pay_it_is_one_by_one(
    each: Checkpoint, batches: list[list[float]]
) -> None:
    generator: Generator = generator_of(each)
    asked = [prompt(user(seconds(3 * number, 1))) for number in range(2)]
    events_of_all([start(generator, one, session_id=n, tokens=1) for n, one in enumerate(asked)])
    assert batches == ([[1, 1]] if each.architecture.encodes_together else [[1], [1]])
