"""Questions about recordings, answered by any engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.ask import Answer, ask
from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.engine import (
    Engine,
    EngineInfo,
    Finished,
    Timings,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.errors import EngineError
from assistant.lines import typed_lines
from assistant.prompt import AudioPart, Message, Part, Prompt, TextPart
from audio_io.errors import AudioFormatError
from audio_io.sources import SourceLimits
from tests.answering_engine import AnsweringModel
from tests.speech import join, prompt, silence, write_wav


@pytest.fixture
def hello(tmp_path: Path) -> str:
    return str(write_wav(tmp_path / "hello.wav", prompt("hello-world")))


async def answers(engine: Engine, *words: str, **options: Any) -> list[Answer]:
    given = {"write": lambda _: None, "limits": SourceLimits(), **options}
    sources, question = (words[:-1], words[-1]) if len(words) > 1 else (words, None)
    return [answer async for answer in ask(engine, sources, question, **given)]


async def lines(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


def asked(engine: AnsweringModel) -> tuple[Part, ...]:
    """What the last question was made of."""
    return engine.replies[-1].prompt.messages[-1].parts


@pytest.mark.parametrize("question", [None, "", " \n"])
async def test_a_file_alone(hello: str, question: str | None) -> None:
    engine = AnsweringModel(["Good", " day\x1b[2J."])
    written: list[str] = []
    words = [hello] if question is None else [hello, question]
    (answer,) = await answers(engine, *words, write=written.append)
    assert written == ["Good", " day[2J."]
    assert answer.part == TextPart("Good day\x1b[2J.", (0, 0))
    assert answer.finished.reason == "stop"
    (reply,) = engine.replies
    user = Message("question", "user", (AudioPart.of(prompt("hello-world")),))
    assert reply.prompt == Prompt((user,))
    assert not reply.options.speculative
    assert (engine.times_started, engine.times_closed) == (1, 2)


async def test_a_question_about_a_file(hello: str) -> None:
    engine = AnsweringModel(["A greeting."])
    await answers(engine, hello, "What is it?", instructions="Be brief.")
    audio = AudioPart.of(prompt("hello-world"))
    assert engine.replies[0].prompt == Prompt(
        (
            Message("instructions", "system", (TextPart("Be brief."),)),
            Message("question", "user", (audio, TextPart("What is it?"))),
        )
    )


async def test_several_files_are_told_apart(hello: str, tmp_path: Path) -> None:
    other = str(write_wav(tmp_path / "seven.wav", prompt("digits/7")))
    engine = AnsweringModel(["Yes."])
    await answers(engine, hello, other, "The same voice?")
    assert asked(engine) == (
        TextPart("hello.wav:"),
        AudioPart.of(prompt("hello-world")),
        TextPart("seven.wav:"),
        AudioPart.of(prompt("digits/7")),
        TextPart("The same voice?"),
    )


async def test_a_long_file_comes_in_parts_with_their_start(tmp_path: Path) -> None:
    tone = (8000 * np.sin(np.arange(28 * 16_000) / 20)).astype(np.int16)
    sound = join(tone, silence(500), tone, silence(500), tone[:80_000])
    file = str(write_wav(tmp_path / "long.wav", sound))
    engine = AnsweringModel(["A tone."])
    await answers(engine, file, "What is it?")
    parts = asked(engine)
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    starts = ["long.wav from 0:00:", "long.wav from 0:28:", "long.wav from 0:56:"]
    assert texts == [*starts, "What is it?"]
    heard = [part.samples for part in parts if isinstance(part, AudioPart)]
    np.testing.assert_array_equal(np.concatenate(heard), sound)


async def test_asking_on(hello: str) -> None:
    engine = AnsweringModel(["A ", "greeting."], ["English."], ["No."])
    given = await answers(
        engine, hello, "What is it?", follow_ups=lines("In what language?\n", " \n", "Are you sure")
    )
    assert [answer.part.text for answer in given] == ["A greeting.", "English.", "No."]
    question = (AudioPart.of(prompt("hello-world")), TextPart("What is it?"))
    assert [(message.role, message.parts) for message in engine.replies[-1].prompt.messages] == [
        ("user", question),
        ("assistant", (TextPart("A greeting.", (0, 0)),)),
        ("user", (TextPart("In what language?"),)),
        ("assistant", (TextPart("English.", (0,)),)),
        ("user", (TextPart("Are you sure"),)),
    ]
    assert engine.times_started == 1


def test_an_answer_for_programs() -> None:
    usage = Usage(TokenCount(10, 25), TokenCount(4, 5), output_tokens=3)
    answer = Answer("parrot", TextPart("Hi"), Finished("stop", usage, Timings(1.23, 4.56, 7.89)))
    assert answer.as_json() == {
        "model": "parrot",
        "text": "Hi",
        "finish_reason": "stop",
        "usage": {
            "input_tokens": 35,
            "input_token_details": {"text_tokens": 10, "audio_tokens": 25, "cached_tokens": 9},
            "output_tokens": 3,
        },
        "timings": {"prefill_ms": 1.2, "first_token_ms": 4.6, "total_ms": 7.9},
    }


async def test_the_embedded_engine_answers(hello: str) -> None:
    written: list[str] = []
    # With words, it would take a greeting for one.
    settings = EmbeddedSettings(words=False, tokens_per_s=1000)
    await answers(EmbeddedEngine(settings), hello, write=written.append)
    assert len(written) > 5
    assert f"{len(prompt('hello-world')) / 16_000:.1f}" in "".join(written)


@pytest.mark.parametrize(
    "failure", [EngineError("out of memory"), ToolCall("call_1", "open_door", "{}", ())]
)
async def test_a_model_that_fails(hello: str, failure: Exception | ToolCall) -> None:
    engine = AnsweringModel(["Well", failure])
    written: list[str] = []
    with pytest.raises(EngineError, match=r"out of memory|called 'open_door', unasked"):
        await answers(engine, hello, write=written.append)
    assert written == ["Well"]
    assert engine.times_closed == 2


async def test_a_model_that_can_not_be_loaded_is_closed(hello: str) -> None:
    class Unloadable(AnsweringModel):
        async def start(self) -> None:
            raise EngineError("out of memory")

    engine = Unloadable()
    with pytest.raises(EngineError, match="out of memory"):
        await answers(engine, hello)
    assert engine.times_closed == 1


async def test_more_than_the_model_has_room_for(hello: str) -> None:
    class Small(AnsweringModel):
        info = EngineInfo("small", context_tokens=35)

    with pytest.raises(EngineError, match=r"too long for small: 1 s of sound take 25 tokens.*35"):
        await answers(Small(), hello)


@pytest.mark.parametrize(
    ("length_ms", "complaint"), [(90, "holds 90 ms of sound"), (30_100, "holds more than 30 s")]
)
async def test_the_file_is_refused_before_a_model_is_loaded(
    tmp_path: Path, length_ms: int, complaint: str
) -> None:
    engine = AnsweringModel()
    file = str(write_wav(tmp_path / "sound.wav", silence(length_ms)))
    with pytest.raises(AudioFormatError, match=complaint):
        await answers(engine, file, limits=SourceLimits(max_s=30))
    assert engine.times_started == 0


async def test_lines_as_they_are_typed() -> None:
    reader, writer = os.pipe()
    invited = []
    typed = typed_lines(reader, lambda: invited.append(True))
    os.write(writer, b"One\nTw\xff\n")
    assert await anext(typed) == "One\n"
    assert await anext(typed) == "Tw\ufffd\n"
    waiting = asyncio.ensure_future(anext(typed))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.write(writer, b"Three")
    os.close(writer)
    assert await waiting == "Three"
    assert [line async for line in typed] == []
    assert len(invited) == 4
    os.close(reader)
