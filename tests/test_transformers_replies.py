"""What the model hears and answers, against the model card's way on the same tiny checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank

from assistant.engines.engine import (
    Finished,
    PrefillReport,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
    Usage,
)
from assistant.engines.transformers.decoding import (
    NO_TOKEN,
    Choices,
    Sampler,
    TextStream,
    likeliest,
    likeliest_on_cpu,
)
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.memory import Conversation
from assistant.engines.transformers.messages import Generate, audio_of
from assistant.engines.transformers.model import load
from assistant.engines.transformers.models.whisper import short_log_mel
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError
from assistant.prompt import Message, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests import speech
from tests.dialogue import assistant, prompt, system, user
from tests.model_card import ModelCard

# Two ways of computing in float32; logits reach 15, and another voice moves them by 1.
TOLERANCE = 2e-4
GREETING = "hello-world"


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


@pytest.fixture(scope="module")
def generator(tiny_qwen2_audio: Path) -> Generator:
    return make_generator(tiny_qwen2_audio)


def make_generator(folder: Path, **options: Any) -> Generator:
    settings = TransformersSettings(device="cpu", **options)
    return Generator(load(str(folder), settings), settings)


@pytest.fixture
def variant(tiny_qwen2_audio: Path, tmp_path: Path) -> Any:
    """A copy of the checkpoint with other values in one of its files."""

    def make(file: str, **values: Any) -> Path:
        folder = tmp_path / "variant"
        shutil.copytree(tiny_qwen2_audio, folder, dirs_exist_ok=True)
        content = json.loads((folder / file).read_text())
        for key, value in values.items():
            if isinstance(value, dict):
                content[key] |= value
            else:
                content[key] = value
        (folder / file).write_text(json.dumps(content))
        return folder

    return make


def run(
    generator: Generator,
    prompt: Prompt,
    max_output_tokens: int,
    conversation: Conversation | None = None,
    temperature: float | None = None,
) -> list[ReplyEvent]:
    """All events of a reply, in `conversation` or one of its own."""
    options = ReplyOptions(max_output_tokens=max_output_tokens, temperature=temperature)
    request = Generate(1, 1, prompt, options, side=False, asked_s=time.monotonic())
    conversation = conversation or generator.memory.of(0)
    conversation.samples |= {digest: part.samples for digest, part in audio_of(prompt).items()}
    generation = generator.start(request, conversation)
    events: list[ReplyEvent] = []
    try:
        while not generation.done:
            events += generation.step()
    finally:
        generation.close()
        generator.memory.forget(0)
    return events


def ids(events: list[ReplyEvent]) -> tuple[int, ...]:
    return tuple(id_ for event in events if isinstance(event, Text) for id_ in event.ids)


def text(events: list[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


# The front end.


def test_the_front_end_is_the_one_that_the_model_was_trained_with(card: ModelCard) -> None:
    extractor = card.processor.feature_extractor
    assert extractor.sampling_rate == SAMPLE_RATE_HZ == 16_000
    assert extractor.feature_size == 128
    assert (extractor.n_fft, extractor.hop_length) == (400, 160)
    assert (extractor.chunk_length, extractor.nb_max_frames) == (30, 3000)


def log_mel(samples: Int16Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Whisper's log-mel spectrogram by its definition, padded to 30 s: (128, 3000)."""
    padded = np.zeros(30 * 16_000)
    padded[: len(samples)] = samples / 32_768
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(padded, 200, mode="reflect"), 400)
    window = np.hanning(401)[:400]
    power = np.abs(np.fft.rfft(framed[:-1:160] * window)) ** 2
    mel = mel_filter_bank(201, 128, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    log = np.log10(np.maximum(mel.T @ power.T, 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


@pytest.mark.parametrize("length", [1600, 16_000, 16_001, 16_159, 30 * 16_000 - 100, 30 * 16_000])
def test_speech_becomes_a_log_mel_spectrogram(
    generator: Generator, card: ModelCard, length: int
) -> None:
    spoken = speech.prompt("demo-congrats")[:length]
    assert len(spoken) == length
    checkpoint = generator.checkpoint
    spectrogram = short_log_mel(checkpoint.extractor, spoken, checkpoint.device)
    frames = min(-(-length // 160) + 2, 3000)
    assert spectrogram.shape == (1, 128, frames)
    np.testing.assert_allclose(spectrogram[0], log_mel(spoken)[:, :frames], atol=1e-3)
    reference = card.inputs(prompt(user(spoken)))
    assert worst(spectrogram - reference["input_features"][:, :, :frames]) < 1e-5


@given(length=st.integers(1600, 30 * 16_000), begin=st.integers(0, 200_000))
@settings(max_examples=10, deadline=None)
def test_audio_is_encoded_as_with_silence_up_to_30_s(
    generator: Generator, card: ModelCard, length: int, begin: int
) -> None:
    spoken = np.roll(speech.prompt("demo-congrats"), -begin)[:length]
    inputs = card.inputs(prompt(user(spoken)))
    embeddings: list[torch.Tensor] = []
    hook = card.model.base_model.multi_modal_projector.register_forward_hook(
        lambda module, given, projected: embeddings.append(projected[0])
    )
    with torch.inference_mode():
        card.model(**inputs)
        ours = generator.checkpoint.encode_audio(spoken)
    hook.remove()
    assert worst(ours - embeddings[0][: len(ours)]) < TOLERANCE
    assert len(ours) == generator.checkpoint.audio_tokens(length)


@pytest.mark.parametrize(
    ("duration_ms", "tokens"), [(100, 2), (1000, 25), (2000, 50), (15_000, 375), (30_000, 750)]
)
def test_tokens_per_second_of_audio(generator: Generator, duration_ms: int, tokens: int) -> None:
    assert generator.checkpoint.audio_tokens(duration_ms * 16) == tokens


def test_thirty_seconds_are_heard_to_their_end(generator: Generator, card: ModelCard) -> None:
    spoken = speech.prompt("demo-congrats")[: 30 * SAMPLE_RATE_HZ]
    assert len(spoken) == 30 * SAMPLE_RATE_HZ
    otherwise = spoken.copy()
    otherwise[-SAMPLE_RATE_HZ // 2 :] = speech.prompt(GREETING)[8000:16_000]
    heard = first_logits(generator, prompt(user(spoken)))
    assert worst(heard - card.logits(prompt(user(spoken)))) < TOLERANCE
    assert worst(heard - first_logits(generator, prompt(user(otherwise)))) > 100 * TOLERANCE


# Logits.


class Dictated(Sampler):
    """Takes the tokens that it is told, and notes the logits it was given."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = iter(tokens)
        self.logits: list[torch.Tensor] = []

    def for_a_reply(self, prompt_ids: Sequence[int], temperature: float | None = None) -> Choices:
        return Choices(None, 0, None)

    def choose(self, replies: Sequence[Choices], logits: torch.Tensor) -> list[int]:
        self.logits.append(logits)
        return [next(self._tokens)]


def logits(generator: Generator, prompt: Prompt, *tokens: int) -> torch.Tensor:
    """Of the first token of a reply, and of each that follows `tokens`: (n + 1, vocabulary)."""
    dictated = Dictated(*tokens, min(generator.end_ids))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "sampler", dictated)
        run(generator, prompt, len(tokens) + 1)
    return torch.cat(dictated.logits)


def first_logits(generator: Generator, prompt: Prompt) -> torch.Tensor:
    return logits(generator, prompt)[0]


def worst(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


def spoken_conversation(first: Int16Array) -> Prompt:
    return prompt(
        system("Answer in one sentence."),
        user(first),
        assistant("Hello to you too."),
        user("What was that: ", speech.phrase("Side_Left")),
        assistant("A direction."),
        user(speech.phrase("Rear_Center"), speech.prompt("goodbye"), "Which came first?"),
    )


def test_logits_are_those_of_the_card_and_depend_on_what_was_heard(
    generator: Generator, card: ModelCard
) -> None:
    heard = spoken_conversation(speech.prompt(GREETING))
    ours = first_logits(generator, heard)
    assert worst(ours - card.logits(heard)) < TOLERANCE
    # The control: another voice, five messages ago, is a difference that would be seen.
    misheard = spoken_conversation(speech.phrase("Front_Center"))
    assert worst(ours - first_logits(generator, misheard)) > 100 * TOLERANCE


def test_every_step_of_decoding_has_the_logits_of_the_card(
    generator: Generator, card: ModelCard
) -> None:
    heard = spoken_conversation(speech.prompt(GREETING))
    reference = card.generate(heard, 20)
    reply = reference.sequences[0, len(card.prompt_ids(heard)) : -1].tolist()
    ours = logits(generator, heard, *reply)
    assert worst(ours - torch.cat(reference.logits)) < TOLERANCE


# Replies.


def test_the_conversation_of_the_task_page(generator: Generator, card: ModelCard) -> None:
    """Word for word, with sounds from Debian in the place of theirs."""
    glass, person = speech.phrase("Noise"), speech.prompt(GREETING)
    declared = prompt(
        system("You are a helpful assistant."),
        user(glass, "What's that sound?"),
        assistant("It is the sound of glass shattering."),
        user("What can you do when you hear that?"),
        assistant(
            "Stay alert and cautious, and check if anyone is hurt or if there is any damage to "
            "property."
        ),
        user(person, "What does the person say?"),
    )
    assert card.text(declared) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
        "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhat's that sound?<|im_end|>\n"
        "<|im_start|>assistant\nIt is the sound of glass shattering.<|im_end|>\n"
        "<|im_start|>user\nWhat can you do when you hear that?<|im_end|>\n"
        "<|im_start|>assistant\nStay alert and cautious, and check if anyone is hurt or if there "
        "is any damage to property.<|im_end|>\n"
        "<|im_start|>user\n"
        "Audio 2: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhat does the person say?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    events = run(generator, declared, 64)
    reply = card.reply_ids(declared, 64)
    assert worst(first_logits(generator, declared) - card.logits(declared)) < TOLERANCE
    assert ids(events) == tuple(id_ for id_ in reply if id_ not in generator.end_ids)
    assert text(events) == card.reply(declared, 64)
    count = generator.renderer.render(
        declared, {part.digest: part.samples for part in audio_of(declared).values()}
    ).count
    assert events[0] == Started(PrefillReport(count, reused=TokenCount()))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage == Usage(count, TokenCount(), len(ids(events)))


def test_a_conversation_of_mixed_turns(generator: Generator, card: ModelCard) -> None:
    """Each reply goes into the next prompt: by its ids for us, by its text for the card."""
    turns: list[Message] = [
        user(speech.prompt(GREETING)),
        user(speech.phrase("Front_Left"), "Where is that?"),
        user("And where is this?", speech.phrase("Rear_Right")),
        user("Typed, for once."),
        user(speech.phrase("Side_Right"), "or", speech.phrase("Front_Right"), "?"),
        user(speech.prompt("goodbye")),
    ]
    ours: list[Message] = []
    for turn in turns:
        declared = prompt(*ours, turn)
        events = run(generator, declared, 24)
        assert text(events) == card.reply(declared, 24)
        ours += [turn, assistant(text(events), ids(events))]
    assert len({message.parts for message in ours[1::2]}) == len(turns), "replies are all different"


SNIPPETS = st.tuples(st.integers(0, 40_000), st.integers(1600, 16_000)).map(
    lambda span: speech.prompt("demo-congrats")[span[0] : sum(span)]
)
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
TURN = st.lists(st.one_of(WORDS, SNIPPETS), min_size=1, max_size=2).map(lambda parts: user(*parts))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(TURN, WORDS.map(assistant)), max_size=2), TURN)
def test_any_conversation_is_answered_as_by_the_card(
    generator: Generator, card: ModelCard, turns: list[tuple[Message, Message]], last: Message
) -> None:
    declared = prompt(*(message for turn in turns for message in turn), last)
    events = run(generator, declared, 12)
    assert (*ids(events),) == tuple(
        id_ for id_ in card.reply_ids(declared, 12) if id_ not in generator.end_ids
    )


def test_a_reply_ends_where_the_model_ends_it(
    generator: Generator, card: ModelCard, variant: Any
) -> None:
    greeting = prompt(user(speech.prompt(GREETING)))
    whole = run(generator, greeting, 16)
    stop_id = ids(whole)[7]
    before = ids(whole)[: ids(whole).index(stop_id)]
    # With those it had, by which it is known to answer and not to go on with its prompt.
    folder = variant("generation_config.json", eos_token_id=[stop_id, *generator.end_ids])
    events = run(make_generator(folder), greeting, 16)
    assert ids(events) == before
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.output_tokens) == ("stop", len(before))


def test_a_reply_ends_at_its_limit(generator: Generator) -> None:
    events = run(generator, prompt(user(speech.prompt(GREETING))), 3)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.output_tokens, len(ids(events))) == ("length", 3, 3)
    timings = finished.timings
    assert 0 < timings.prefill_ms <= timings.first_token_ms <= timings.total_ms


def test_a_reply_ends_at_the_end_of_the_context(generator: Generator, variant: Any) -> None:
    greeting = prompt(user("Hello."))
    used = generator.renderer.render(greeting, {}).count.total
    folder = variant("config.json", text_config={"max_position_embeddings": used + 5})
    events = run(make_generator(folder), greeting, 100)
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].usage.output_tokens) == ("length", 5)


def test_a_prompt_beyond_the_context_is_refused(generator: Generator, variant: Any) -> None:
    greeting = prompt(user("Hello."))
    used = generator.renderer.render(greeting, {}).count.total
    folder = variant("config.json", text_config={"max_position_embeddings": used})
    with pytest.raises(EngineError, match=rf"takes {used} tokens.*holds {used}"):
        run(make_generator(folder), greeting, 100)


# Sampling.

SAMPLED = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.5}


@pytest.mark.parametrize(
    "values",
    [
        {"do_sample": True},
        SAMPLED,
        SAMPLED | {"repetition_penalty": 1.1},
        SAMPLED | {"top_k": 0, "top_p": 1.0, "temperature": 1.5},
        {"do_sample": False, "repetition_penalty": 1.3},
    ],
    ids=[
        "the library's",
        "the instruct checkpoint's",
        "with penalty",
        "open",
        "greedy with penalty",
    ],
)
def test_sampling_is_the_checkpoint_s(variant: Any, values: dict[str, Any]) -> None:
    folder = variant("generation_config.json", **values)
    greeting = prompt(user(speech.prompt(GREETING)))
    generator, card = make_generator(folder), ModelCard(folder)
    torch.manual_seed(0)
    ours = ids(run(generator, greeting, 20))
    torch.manual_seed(0)
    assert ours == tuple(
        id_ for id_ in card.reply_ids(greeting, 20) if id_ not in generator.end_ids
    )


def test_temperature_can_be_set(generator: Generator, variant: Any) -> None:
    greeting = prompt(user(speech.prompt(GREETING)))
    folder = variant("generation_config.json", **SAMPLED)
    greedy = ids(run(generator, greeting, 20))
    assert ids(run(make_generator(folder, temperature=0), greeting, 20)) == greedy
    torch.manual_seed(0)
    hot = make_generator(folder, temperature=2)
    assert ids(run(hot, greeting, 20)) != greedy
    # A reply's own goes before it, and is its alone.
    assert ids(run(hot, greeting, 20, temperature=0)) == greedy
    assert ids(run(hot, greeting, 20)) != greedy


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("values", [{}, SAMPLED, {"repetition_penalty": 1.3}], ids=str)
def test_a_single_logit_that_is_no_number_is_seen(
    variant: Any, values: dict[str, Any], broken: float
) -> None:
    generator = make_generator(variant("generation_config.json", **values))
    size = generator.checkpoint.vocabulary
    sampler = generator.sampler
    replies = [sampler.for_a_reply([0, size - 1]) for _ in range(3)]
    assert all(0 <= token < size for token in sampler.choose(replies, torch.zeros(3, size)))
    for place in range(size):
        logits = torch.zeros(3, size)
        logits[1, place] = broken
        first, second, third = sampler.choose(replies, logits)
        assert second == NO_TOKEN
        assert 0 <= first < size and 0 <= third < size


SCORES = st.one_of(
    st.integers(-3, 3), st.just(-np.inf), st.just(np.inf), st.just(np.nan), st.floats(width=32)
)


@given(st.integers(1, 9).flatmap(lambda size: st.lists(st.tuples(*[SCORES] * size), min_size=1)))
def test_the_likeliest_token_is_the_same_by_numpy_as_by_torch(rows: list[tuple[float]]) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    (tokens, best), (others, theirs) = likeliest_on_cpu(scores), likeliest(scores)
    np.testing.assert_array_equal(best, theirs)
    # Of equal ones, torch may take any.
    every = range(len(rows))
    np.testing.assert_array_equal(scores[every, tokens], scores[every, others])


# Text.


@pytest.mark.parametrize("written", ["Hello, you.", "你好吗?", "こんにちは", "สวัสดี", "안녕 👋🏽!"])
def test_characters_come_as_soon_as_they_are_whole(generator: Generator, written: str) -> None:
    encoded = generator.checkpoint.tokenizer.encode(written)
    stream = TextStream(generator.tokenizer, generator.special_ids)
    pieces = [piece for id_ in encoded if (piece := stream.push(id_))]
    assert [piece.text for piece in pieces] == list(written)
    assert [id_ for piece in pieces for id_ in piece.ids] == encoded


def test_control_tokens_of_the_model_never_show(generator: Generator) -> None:
    tokenizer = generator.checkpoint.tokenizer
    written = tokenizer.encode("H<|im_start|>i<|AUDIO|>")
    stream = TextStream(generator.tokenizer, generator.special_ids)
    h, i = tokenizer.encode("Hi")
    assert [stream.push(id_) for id_ in written] == [Text("H", (h,)), None, Text("i", (i,)), None]
