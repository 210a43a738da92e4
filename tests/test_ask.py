"""A question about a file, answered by any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.ask import ask
from assistant.conversation import AudioPart, Message, Prompt, TextPart
from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.engine import Finished, ToolCall
from assistant.errors import EngineError
from audio_io.errors import AudioFormatError
from tests.answering_engine import AnsweringModel
from tests.speech import prompt, silence, write_wav


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "hello.wav", prompt("hello-world"))


@pytest.mark.parametrize("question", [None, "", " \n"])
async def test_a_file_alone(hello: Path, question: str | None) -> None:
    engine = AnsweringModel(["Good", " day\x1b[2J."])
    written: list[str] = []
    finished = await ask(engine, hello, question, write=written.append)
    assert written == ["Good", " day[2J."]
    assert isinstance(finished, Finished) and finished.reason == "stop"
    (reply,) = engine.replies
    user = Message("question", "user", (AudioPart.of(prompt("hello-world")),))
    assert reply.prompt == Prompt((user,))
    assert not reply.options.speculative
    assert (engine.times_started, engine.times_closed) == (1, 2)


async def test_a_question_about_a_file(hello: Path) -> None:
    engine = AnsweringModel(["A greeting."])
    await ask(engine, hello, "What is it?", instructions="Be brief.", write=lambda _: None)
    audio = AudioPart.of(prompt("hello-world"))
    assert engine.replies[0].prompt == Prompt(
        (
            Message("instructions", "system", (TextPart("Be brief."),)),
            Message("question", "user", (audio, TextPart("What is it?"))),
        )
    )


async def test_the_embedded_engine_answers(hello: Path) -> None:
    written: list[str] = []
    # With words, it would take a greeting for one.
    settings = EmbeddedSettings(words=False, tokens_per_s=1000)
    await ask(EmbeddedEngine(settings), hello, write=written.append)
    assert len(written) > 5
    assert f"{len(prompt('hello-world')) / 16_000:.1f}" in "".join(written)


@pytest.mark.parametrize(
    "failure", [EngineError("out of memory"), ToolCall("call_1", "open_door", "{}", ())]
)
async def test_a_model_that_fails(hello: Path, failure: Exception | ToolCall) -> None:
    engine = AnsweringModel(["Well", failure])
    written: list[str] = []
    with pytest.raises(EngineError, match=r"out of memory|called 'open_door', unasked"):
        await ask(engine, hello, write=written.append)
    assert written == ["Well"]
    assert engine.times_closed == 2


async def test_a_model_that_can_not_be_loaded_is_closed(hello: Path) -> None:
    class Unloadable(AnsweringModel):
        async def start(self) -> None:
            raise EngineError("out of memory")

    engine = Unloadable()
    with pytest.raises(EngineError, match="out of memory"):
        await ask(engine, hello, write=lambda _: None)
    assert engine.times_closed == 1


@pytest.mark.parametrize(
    ("length_ms", "complaint"), [(90, "holds 90 ms of sound"), (30_100, "holds more than 30 s")]
)
async def test_the_file_is_refused_before_a_model_is_loaded(
    tmp_path: Path, length_ms: int, complaint: str
) -> None:
    engine = AnsweringModel()
    file = write_wav(tmp_path / "sound.wav", silence(length_ms))
    with pytest.raises(AudioFormatError, match=complaint):
        await ask(engine, file, write=lambda _: None)
    assert engine.times_started == 0
