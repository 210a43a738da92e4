"""Every architecture that is served: its replies are those of its library's own `generate`.

The reference sees the whole conversation from scratch each time; ours keeps what it has computed.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from assistant.ask import ask
from assistant.engines.engine import ReplyEvent
from assistant.engines.transformers import TransformersEngine
from assistant.engines.transformers.decoding import Sampler
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.models.other import Other
from assistant.engines.transformers.models.registry import ARCHITECTURES
from assistant.engines.transformers.prompt import PromptRenderer
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Message, Prompt, TextPart
from audio_io.pcm import Int16Array
from audio_io.sources import SourceLimits
from tests import speech
from tests.dialogue import assistant, prompt, system, user
from tests.model_card import ModelCard
from tests.model_cards import MODELS
from tests.test_transformers_session import (
    ON_CPU,
    TOKENS,
    TOLERANCE,
    Conversations,
    check,
    events_of,
    generator_of,
    go_on,
    said,
    start,
    started,
)

Model = tuple[Checkpoint, ModelCard]
SOUND = speech.prompt("hello-world")
FIRST, SECOND = SOUND[:9000], SOUND[4000:20_000]
ADAPTERS = {"granite_speech": ".", "phi4_multimodal": "speech-lora"}
"""The folder of each model's adapter."""


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A checkpoint of the architecture, loaded from its folder, and the reference."""
    build, card = MODELS[request.param]
    folder = build(tmp_path_factory.mktemp("models") / request.param)
    return load(str(folder), ON_CPU), card(folder)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of each token that is computed: (1, vocabulary)."""
    computed: list[torch.Tensor] = []
    real = Checkpoint.logits

    def recording(self: Checkpoint, hidden: torch.Tensor) -> torch.Tensor:
        computed.append(real(self, hidden))
        return computed[-1]

    monkeypatch.setattr(Checkpoint, "logits", recording)
    return computed


def test_a_conversation_of_speech_and_text(model: Model, computed: list[torch.Tensor]) -> None:
    checkpoint, card = model
    generator = generator_of(checkpoint)
    history: list[Message] = [system("Be brief.")]
    held = 0
    for turn in (user(FIRST), user(SECOND, "What was said?"), user("And before?")):
        declared = prompt(*history, turn)
        computed.clear()
        events = events_of(start(generator, declared))
        rendered = generator.renderer.render(declared, generator.memory.of(1).samples)
        assert rendered.ids == card.prompt_ids(declared)
        reference = card.generate(declared, TOKENS)
        assert (computed[0] - reference.logits[0]).abs().max() < TOLERANCE
        check(card, declared, events, reference)
        # Nothing of what was said before is computed again.
        report = started(events).report
        assert report.reused.total == held
        reply = said(events)
        (part,) = reply.parts
        assert isinstance(part, TextPart)
        held = report.prompt.total + min(len(part.token_ids), TOKENS - 1)
        history += [turn, reply]


def test_what_is_heard_matters(model: Model, computed: list[torch.Tensor]) -> None:
    """Far more than what two ways of computing differ by."""
    checkpoint, _ = model
    for heard in FIRST, SOUND[9000:18_000]:
        events_of(start(generator_of(checkpoint), prompt(user(heard)), tokens=1))
    heard, otherwise = computed
    assert (heard - otherwise).abs().max() > 20 * TOLERANCE


def test_what_is_said_again_may_be_penalised(model: Model) -> None:
    """Also where the token for audio, which stands in the prompt, can't be said."""
    checkpoint, _ = model
    generator = generator_of(checkpoint)
    penalising = ON_CPU.model_copy(update={"repetition_penalty": 1.3})
    generator.sampler = Sampler(checkpoint, penalising)
    assert started(events_of(start(generator, prompt(user(FIRST))))).report.prompt.audio


def test_what_is_typed_stays_text(model: Model) -> None:
    """Also where it spells every control token that there is."""
    checkpoint, _ = model
    control = checkpoint.tokenizer.get_added_vocab()
    renderer = PromptRenderer(checkpoint)
    sound = AudioPart.of(FIRST)

    def control_ids(text: str) -> list[int]:
        declared = prompt(system(text), user(FIRST, text), assistant(text), user(text))
        rendered = renderer.render(declared, {sound.digest: sound.samples})
        return [id_ for id_ in rendered.ids if id_ in control.values()]

    assert control_ids(" ".join(control)) == control_ids("harmless")


def test_replies_of_several_take_steps_together(model: Model) -> None:
    checkpoint, card = model
    declared = [prompt(user(FIRST)), prompt(user(SECOND, "What was said, and by whom?"))]
    together(checkpoint, card, declared)


def together(checkpoint: Checkpoint, card: ModelCard, declared: list[Prompt]) -> None:
    """Reply to these at the same time."""
    generator = generator_of(checkpoint)
    replies = [start(generator, each, session_id=number) for number, each in enumerate(declared)]
    events: list[list[ReplyEvent]] = [[] for _ in replies]
    while open_ := [reply for reply in replies if not reply.done]:
        for reply, news in zip(open_, go_on(generator, open_), strict=True):
            events[replies.index(reply)] += news
    for each, said_of_it in zip(declared, events, strict=True):
        check(card, each, said_of_it)


@torch.inference_mode()
@pytest.mark.parametrize("sample_count", [1600, 16_001, 480_000])
def test_audio_takes_as_many_tokens_as_its_encoder_gives(model: Model, sample_count: int) -> None:
    checkpoint, _ = model
    samples = np.resize(SOUND, sample_count)
    encoded = checkpoint.encode_audio(samples)
    assert len(encoded) == checkpoint.audio_tokens(sample_count)
    assert encoded.untyped_storage().nbytes() == encoded.nbytes


def test_a_reply_in_bf16(model: Model) -> None:
    """What a GPU computes with; here it only has to fit together."""
    checkpoint, _ = model
    halved = replace(checkpoint, model=deepcopy(checkpoint.model).to(torch.bfloat16))
    with torch.inference_mode():
        exact, rough = checkpoint.encode_audio(FIRST), halved.encode_audio(FIRST)
    assert rough.dtype == torch.bfloat16
    assert torch.cosine_similarity(exact.flatten(), rough.float().flatten(), dim=0) > 0.9
    events = events_of(start(generator_of(halved), prompt(user(FIRST, "Well?"))))
    assert said(events).parts


@pytest.mark.slow
def test_whatever_happens_replies_are_those_of_the_library(model: Model) -> None:
    checkpoint, card = model

    class OfThese(Conversations):
        @staticmethod
        def check(generator: Generator, declared: Prompt, events: list[ReplyEvent]) -> None:
            check(card, declared, events)

    OfThese.checkpoint = checkpoint
    limits = settings(max_examples=5, stateful_step_count=10, deadline=None)
    run_state_machine_as_test(OfThese, settings=limits)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
async def test_each_answers_a_question_about_a_file(name: str, tmp_path: Path) -> None:
    """From the command down to the model in a worker of its own, and back."""
    build, card = MODELS[name]
    folder = build(tmp_path / "model")
    file = speech.write_wav(tmp_path / "sound.wav", SECOND)
    written: list[str] = []
    settings = ON_CPU.model_copy(update={"worker": "thread", "max_output_tokens": TOKENS})
    engine = TransformersEngine(str(folder), settings)
    limits = SourceLimits()
    async for _ in ask(engine, [str(file)], "What was said?", limits=limits, write=written.append):
        pass
    declared = prompt(user(SECOND, "What was said?"))
    reference = card(folder).reply_ids(declared, TOKENS)
    tokenizer = load(str(folder), ON_CPU).tokenizer
    assert "".join(written) == tokenizer.decode(reference, skip_special_tokens=True)


@pytest.mark.parametrize(("name", "end"), [("qwen2_5_omni", "<|im_end|>"), ("voxtral", "</s>")])
def test_what_ends_a_reply_may_be_known_without_a_file(name: str, end: str, tmp_path: Path) -> None:
    build, _ = MODELS[name]
    folder = build(tmp_path)
    (folder / "generation_config.json").unlink()
    generator = generator_of(load(str(folder), ON_CPU))
    assert generator.end_ids == {generator.checkpoint.tokenizer.convert_tokens_to_ids(end)}


@pytest.fixture(params=ADAPTERS)
def adapted(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    build, card = MODELS[request.param]
    folder = build(tmp_path)
    return load(str(folder), ON_CPU), card(folder)


def test_an_adapter_acts_where_there_is_audio_alone(adapted: Model) -> None:
    """A conversation that gets its first sound is computed anew, and so is one that loses it."""
    checkpoint, card = adapted
    generator = generator_of(checkpoint)
    written, spoken = prompt(user("Hello.")), prompt(user("Hello."), user(FIRST))
    for declared, reused in [(written, False), (spoken, False), (spoken, True), (written, False)]:
        events = events_of(start(generator, declared))
        check(card, declared, events)
        assert (started(events).report.reused.total > 0) == reused


def test_replies_with_and_without_an_adapter_take_steps_together(adapted: Model) -> None:
    checkpoint, card = adapted
    together(checkpoint, card, [prompt(user("Hello.")), prompt(user("Hello.", FIRST))])


@pytest.mark.parametrize(("architecture", "adapter"), ADAPTERS.items())
def test_a_checkpoint_without_its_adapter(tmp_path: Path, architecture: str, adapter: str) -> None:
    build, _ = MODELS[architecture]
    folder = build(tmp_path / "model")
    (folder / adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(EngineError, match="holds no adapter that can be read"):
        load(str(folder), ON_CPU)


def test_a_gemma_4_without_ears_is_refused(tmp_path: Path) -> None:
    build, _ = MODELS["gemma4"]
    folder = build(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"audio_config": None}))
    with pytest.raises(EngineError, match="only E2B, E4B and 12B take audio"):
        load(str(folder), ON_CPU)


# Models without an entry.


def test_the_common_way_is_tried_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ARCHITECTURES, "musicflamingo")
    build, _ = MODELS["musicflamingo"]
    with pytest.raises(EngineError, match=r"no entry for musicflamingo, .* fails with it: .*ids"):
        load(str(build(tmp_path)), ON_CPU)


def test_what_computes_something_else_is_refused(tmp_path: Path) -> None:
    class Deaf(Other):
        def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
            return 0 * super().encode_audio(model, extractor, samples)

    build, _ = MODELS["glmasr"]
    checkpoint = load(str(build(tmp_path)), ON_CPU)
    with pytest.raises(EngineError, match=r"something else than its own code \(agreement 0\.\d+\)"):
        Deaf(checkpoint.model.config).finish(checkpoint.model, checkpoint.extractor, tmp_path)


def test_each_has_its_test() -> None:
    assert ARCHITECTURES.keys() | {"glmasr"} == MODELS.keys()
