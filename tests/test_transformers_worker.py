"""The worker, asked over its socket: whose turn it is, how far it runs ahead, when it stops."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assistant.engines.engine import Finished, ReplyOptions, Started, Text, TokenCount
from assistant.engines.transformers.channel import HEADER, packed, unpacked
from assistant.engines.transformers.decoding import Sampler
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.memory import Memory
from assistant.engines.transformers.memory_plan import Plan
from assistant.engines.transformers.messages import (
    Answer,
    Cancel,
    Commit,
    Count,
    Ended,
    Forget,
    FromWorker,
    Generate,
    Hear,
    Load,
    Loaded,
    Ping,
    Pong,
    ToWorker,
    audio_of,
    without_samples,
)
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Pool
from assistant.engines.transformers.worker import work
from assistant.prompt import Prompt
from audio_io.pcm import Int16Array
from tests.dialogue import prompt, user

AHEAD = 3
# Whatever it answers, nobody has trained it to stop within so few tokens (`tests/tiny_models.py`).
HELLO = prompt(user("Hello!"))
NOISE = np.random.default_rng(0).normal(0, 3000, 8000).astype(np.int16)


class Asker:
    """The other end of a worker that runs in a thread."""

    def __init__(self, folder: Path) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(60)
        self._file = self._socket.makefile("rb")
        self.thread = threading.Thread(target=work, args=(theirs,))
        self.thread.start()
        settings = TransformersSettings(device="cpu", decode_ahead_tokens=AHEAD)
        self.send(Load(str(folder), settings))
        assert isinstance(self.hear(), Loaded)

    def send(self, *messages: ToWorker) -> None:
        """All at once, so that the worker reads them all before its next step."""
        self._socket.sendall(b"".join(map(packed, messages)))

    def hear(self) -> FromWorker:
        is_text, length = HEADER.unpack(self._file.read(HEADER.size))
        return unpacked(self._file.read(length), is_text=is_text)

    def hear_all(self, *request_ids: int) -> list[FromWorker]:
        """All that comes until these requests have ended."""
        messages: list[FromWorker] = []
        while {m.request_id for m in messages if isinstance(m, Ended)} != set(request_ids):
            messages.append(self.hear())
        return messages

    def close(self) -> None:
        self._file.close()
        self._socket.close()
        self.thread.join()


@pytest.fixture
def asker(tiny_qwen2_audio: Path) -> Iterator[Asker]:
    asker = Asker(tiny_qwen2_audio)
    yield asker
    asker.close()


def generate(
    request_id: int,
    prompt: Prompt = HELLO,
    *,
    session_id: int = 1,
    tokens: int = 5,
    speculative: bool = False,
    side: bool = False,
) -> Generate:
    options = ReplyOptions(tokens, speculative)
    bare = without_samples(prompt)
    return Generate(request_id, session_id, bare, options, side=side, asked_s=time.monotonic())


def hear(sound: Int16Array, session_id: int = 1) -> Hear:
    (part,) = audio_of(prompt(user(sound))).values()
    return Hear(session_id, part.digest, part.samples)


def brief(messages: list[FromWorker]) -> list[tuple[int, str]]:
    """Request and kind of each message."""
    return [
        (m.request_id, type(m.content).__name__ if isinstance(m, Answer) else m.error or "Ended")
        for m in messages
        if isinstance(m, Answer | Ended)
    ]


def test_replies_go_on_together_once_their_prompts_are_in(asker: Asker) -> None:
    asker.send(generate(1, tokens=4), generate(2, session_id=2, tokens=2))
    assert brief(asker.hear_all(1, 2)) == [
        (1, "Started"),
        (1, "Text"),
        (1, "Text"),
        (2, "Started"),
        (2, "Text"),
        (1, "Text"),
        (2, "Text"),
        (2, "Finished"),
        (2, "Ended"),
        (1, "Text"),
        (1, "Finished"),
        (1, "Ended"),
    ]


LENGTHS = [12, 3, 11, 9, 1, 10, 7, 9]
PROMPTS = [prompt(user("Hello!" * count)) for count in LENGTHS]


def alone(asker: Asker) -> list[list[Text]]:
    """What is said to each of PROMPTS where nobody else asks."""
    replies = []
    for number, declared in enumerate(PROMPTS):
        asker.send(generate(number, declared, session_id=number, tokens=LENGTHS[number]))
        replies.append(texts(asker.hear_all(number)))
    return replies


def together(asker: Asker) -> tuple[list[list[Text]], set[int]]:
    """The same where all ask at once, and who failed."""
    numbers = range(len(PROMPTS))
    asker.send(
        *(
            generate(100 + n, PROMPTS[n], session_id=100 + n, tokens=LENGTHS[n], speculative=n == 1)
            for n in numbers
        ),
        Commit(101),
    )
    messages = asker.hear_all(*(100 + n for n in numbers))
    return [
        texts([m for m in messages if isinstance(m, Answer) and m.request_id == 100 + n])
        for n in numbers
    ], {request_id - 100 for request_id in errors(messages)}


def test_a_step_is_computed_once_for_all(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    said = alone(asker)
    sizes: list[int] = []
    real = Checkpoint.hidden_states

    def counting(self: Checkpoint, embeddings: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(embeddings))
        return real(self, embeddings, *rest)

    monkeypatch.setattr(Checkpoint, "hidden_states", counting)
    assert together(asker) == (said, set())
    # Between two steps, one more prompt is taken in: whoever is the nth joins after n steps.
    steps = max(n + count - 1 for n, count in enumerate(LENGTHS))
    assert len(sizes) == len(PROMPTS) + steps
    assert sum(sizes) == len(PROMPTS) + sum(count - 1 for count in LENGTHS)


def test_no_more_take_a_step_together_than_can(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = alone(asker)
    sizes: list[int] = []
    real = Generator.tokens_after

    def counting(self: Generator, generations: Any) -> list[int]:
        sizes.append(len(generations))
        return real(self, generations)

    monkeypatch.setattr(Generator, "tokens_after", counting)
    monkeypatch.setattr(Generator, "most_together", 3)
    assert together(asker) == (said, set())
    assert max(sizes) == 3
    assert sum(sizes) == sum(count - 1 for count in LENGTHS)


@pytest.mark.parametrize(("where", "of"), [(Checkpoint, "hidden_states"), (Sampler, "choose")])
def test_what_fails_together_is_tried_alone(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, where: type, of: str
) -> None:
    said = alone(asker)
    real = getattr(where, of)

    def failing(self: object, replies: Any, *rest: Any) -> Any:
        if len(replies) > 1:
            raise torch.OutOfMemoryError("too many")
        return real(self, replies, *rest)

    monkeypatch.setattr(where, of, failing)
    assert together(asker) == (said, set())


def test_whoever_fails_in_a_step_fails_alone(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    said = alone(asker)
    real = Checkpoint.logits

    def broken(self: Checkpoint, hidden: torch.Tensor) -> torch.Tensor:
        logits = real(self, hidden)
        if len(logits) == 5:
            logits = logits.clone()
            logits[2] = float("nan")
        return logits

    monkeypatch.setattr(Checkpoint, "logits", broken)
    replies, failed = together(asker)
    assert failed
    for number, (reply, whole) in enumerate(zip(replies, said, strict=True)):
        if number in failed:
            assert reply == whole[: len(reply)]
        else:
            assert reply == whole


def test_a_turn_that_has_ended_comes_before_one_that_has_not(asker: Asker) -> None:
    asker.send(
        generate(1, tokens=2, speculative=True),
        generate(2, session_id=2, tokens=2),
    )
    order = [request_id for request_id, _ in brief(asker.hear_all(1, 2))]
    assert order == sorted(order, reverse=True)


def test_others_get_their_tokens_while_a_long_prompt_is_taken_in(asker: Asker) -> None:
    # Two chunks of 512 tokens and what is left.
    long = prompt(user("a" * 1100))
    asker.send(generate(1, tokens=10), generate(2, long, session_id=2, tokens=1))
    order = [request_id for request_id, kind in brief(asker.hear_all(1, 2)) if kind == "Text"]
    assert order == [1, 1, 1, 1, 2] + [1] * 6


def test_it_gives_a_sign_of_life_between_two_parts_of_a_prompt(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Checkpoint.hidden_states
    parts: list[int] = []

    def pinging(self: Checkpoint, embeddings: torch.Tensor, *rest: Any) -> torch.Tensor:
        parts.append(embeddings.shape[1])
        if len(parts) == 1:
            asker.send(Ping())
        return real(self, embeddings, *rest)

    monkeypatch.setattr(Checkpoint, "hidden_states", pinging)
    asker.send(generate(1, prompt(user("a" * 1100)), tokens=1))
    assert isinstance(asker.hear(), Pong)
    assert brief(asker.hear_all(1))[0] == (1, "Started")
    # Nor does it need work to do for that.
    asker.send(Ping())
    assert isinstance(asker.hear(), Pong)


def test_a_speculative_reply_waits_at_its_bound(asker: Asker) -> None:
    asker.send(generate(1, tokens=6, speculative=True))
    assert brief([asker.hear() for _ in range(1 + AHEAD)]) == [(1, "Started")] + [(1, "Text")] * 3
    # It waits, and others are served meanwhile.
    asker.send(generate(2, session_id=2, tokens=8), Count(3, 2, HELLO))
    assert {request_id for request_id, _ in brief(asker.hear_all(2, 3))} == {2, 3}
    asker.send(Commit(1))
    assert brief(asker.hear_all(1)) == [(1, "Text")] * 3 + [(1, "Finished"), (1, "Ended")]


def test_a_commit_that_comes_early(asker: Asker) -> None:
    asker.send(generate(1, tokens=6, speculative=True), Commit(1))
    ahead = asker.hear_all(1)
    asker.send(generate(2, tokens=6))
    assert texts(ahead) == texts(asker.hear_all(2))


def test_replies_that_are_ahead_give_way_until_there_is_room(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page each for two that wait; one that is waited for needs both, and no message more."""
    monkeypatch.setattr(
        "assistant.engines.transformers.generation.make_memory",
        lambda checkpoint, settings: Memory(Pool(checkpoint, Plan(2, 128, 256))),
    )
    with closing(Asker(tiny_qwen2_audio)) as asker:
        asker.send(*(generate(id_, session_id=id_, speculative=True) for id_ in (1, 2)))
        for _ in range(2 * (1 + AHEAD)):
            asker.hear()
        asker.send(generate(3, session_id=3, tokens=200))
        gave_way = "It gave way to a reply that is waited for."
        assert brief([asker.hear() for _ in range(3)]) == [
            (1, gave_way),
            (2, gave_way),
            (3, "Started"),
        ]
        asker.send(Cancel(3))
        asker.hear_all(3)


def texts(messages: list[FromWorker]) -> list[Text]:
    return [m.content for m in messages if isinstance(m, Answer) and isinstance(m.content, Text)]


def test_cancelling_stops_at_once(asker: Asker) -> None:
    asker.send(generate(1, tokens=6, speculative=True))
    for _ in range(1 + AHEAD):
        asker.hear()
    asker.send(Cancel(1), Cancel(1), Commit(1), generate(2, tokens=1))
    assert brief(asker.hear_all(1, 2)) == [
        (1, "Ended"),
        (2, "Started"),
        (2, "Text"),
        (2, "Finished"),
        (2, "Ended"),
    ]


def test_a_reply_that_is_cancelled_before_it_starts(asker: Asker) -> None:
    asker.send(generate(1), Cancel(1))
    assert brief(asker.hear_all(1)) == [(1, "Ended")]


def test_forgetting_a_conversation_ends_its_replies(asker: Asker) -> None:
    asker.send(generate(1), generate(2, session_id=2, tokens=1), Forget(1))
    assert brief(asker.hear_all(1, 2)) == [
        (1, "Ended"),
        (2, "Started"),
        (2, "Text"),
        (2, "Finished"),
        (2, "Ended"),
    ]


def test_audio_crosses_once_and_stays_as_long_as_it_is_named(asker: Asker) -> None:
    heard = prompt(user(NOISE))
    counting = Count(2, 1, without_samples(heard))
    asker.send(hear(NOISE), generate(1, heard, tokens=3), counting)
    first = asker.hear_all(1, 2)
    assert Answer(2, TokenCount(text=69, audio=12)) in first
    # A side reply that doesn't name it leaves it there, a main reply doesn't.
    asker.send(generate(3, side=True, tokens=1))
    asker.hear_all(3)
    asker.send(generate(4, heard, tokens=3))
    assert texts(asker.hear_all(4)) == texts(first)
    asker.send(generate(5, tokens=1), replace(counting, request_id=6))
    assert errors(asker.hear_all(5, 6)) == {6}


def errors(messages: list[FromWorker]) -> set[int]:
    return {m.request_id for m in messages if isinstance(m, Ended) and m.error is not None}


def test_what_fails_a_request_fails_no_other(asker: Asker) -> None:
    unheard = generate(1, prompt(user(NOISE)))
    too_long = np.zeros(31 * 16_000, np.int16)
    asker.send(hear(too_long), generate(2, prompt(user(too_long))), generate(3, tokens=1))
    asker.send(unheard)
    messages = asker.hear_all(1, 2, 3)
    assert errors(messages) == {1, 2}
    assert [m.error for m in messages if isinstance(m, Ended) and m.request_id == 2] == [
        "A part of the audio lasts 31.0 s, and the model takes 30.0 s at most. Send it as several "
        "parts."
    ]


def test_it_ends_with_its_socket_in_the_middle_of_a_reply(asker: Asker) -> None:
    asker.send(generate(1, tokens=5000))
    assert isinstance(asker.hear(), Answer)
    asker.close()
    assert not asker.thread.is_alive()


def test_the_reply_is_whole(asker: Asker) -> None:
    asker.send(generate(1, tokens=5))
    contents = [m.content for m in asker.hear_all(1) if isinstance(m, Answer)]
    assert [type(content) for content in contents] == [Started, *[Text] * 5, Finished]
