"""A question about a file, answered by any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.ask import ask
from assistant.conversation import AudioPart, Message, Prompt, TextPart
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Finished, ReplyOptions, ToolCall
from assistant.errors import EngineError
from audio_io.errors import AudioFormatError
from tests.scripted_engine import ScriptedModel, ScriptedReply
from tests.speech import prompt, silence, write_wav


class Answering(ScriptedModel):
    """Answers every prompt with the same script; counts being started and closed."""

    def __init__(self, *script: str | Exception | ToolCall) -> None:
        super().__init__()
        self._script = script
        self.started = 0
        self.closed_times = 0

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        self.closed_times += 1

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        reply = super().reply(prompt, options, side=side)
        for piece in self._script:
            if isinstance(piece, str):
                reply.says(piece)
            else:
                reply.script.put_nowait(piece)
        reply.ends()
        return reply


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "hello.wav", prompt("hello-world"))


async def test_a_file_alone(hello: Path) -> None:
    engine = Answering("Good", " day\x1b[2J.")
    written: list[str] = []
    finished = await ask(engine, hello, write=written.append)
    assert written == ["Good", " day[2J."]
    assert isinstance(finished, Finished) and finished.reason == "stop"
    (reply,) = engine.replies
    user = Message("question", "user", (AudioPart.of(prompt("hello-world")),))
    assert reply.prompt == Prompt((user,))
    assert not reply.options.speculative
    # Its session and itself are one.
    assert (engine.started, engine.closed_times) == (1, 2)


async def test_a_question_about_a_file(hello: Path) -> None:
    engine = Answering("A greeting.")
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
    await ask(EmbeddedEngine(), hello, write=written.append)
    assert len(written) > 5
    assert f"{len(prompt('hello-world')) / 16_000:.1f}" in "".join(written)


@pytest.mark.parametrize(
    "failure", [EngineError("out of memory"), ToolCall("call_1", "open_door", "{}", ())]
)
async def test_a_model_that_fails(hello: Path, failure: Exception | ToolCall) -> None:
    engine = Answering("Well", failure)
    written: list[str] = []
    with pytest.raises(EngineError, match=r"out of memory|called 'open_door', unasked"):
        await ask(engine, hello, write=written.append)
    assert written == ["Well"]
    assert engine.closed_times == 2


@pytest.mark.parametrize(
    ("length_ms", "complaint"), [(90, "holds 90 ms of sound"), (30_100, "holds more than 30 s")]
)
async def test_the_file_is_refused_before_a_model_is_loaded(
    tmp_path: Path, length_ms: int, complaint: str
) -> None:
    engine = Answering()
    file = write_wav(tmp_path / "sound.wav", silence(length_ms))
    with pytest.raises(AudioFormatError, match=complaint):
        await ask(engine, file, write=lambda _: None)
    assert engine.started == 0
