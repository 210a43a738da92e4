"""The check of an installation, with engines that answer, fail, and know not every mode."""

from __future__ import annotations

from itertools import count

import pytest

from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.embedded.words import installed
from assistant.engines.engine import EngineInfo
from assistant.errors import EngineError
from assistant.selftest import checks, selftest
from audio_io.pcm import SAMPLE_RATE_HZ
from tests.answering_engine import AnsweringModel

MODEL = EngineInfo("scripted", 8192, modes=frozenset({"voice_chat", "audio_analysis", "text"}))


async def report(engine: AnsweringModel) -> str:
    """What is printed, by a clock that goes on by 1/4 s whenever it is looked at."""
    clock = count()
    written: list[str] = []
    await selftest(engine, written.append, now_s=lambda: next(clock) / 4)
    return "".join(written)


async def test_every_mode_is_asked_and_timed() -> None:
    engine = AnsweringModel(["Pa", "ris", "."])
    engine.info = MODEL
    assert await report(engine) == (
        "scripted on cpu, 8192 tokens of context; loaded in 0.2 s\n"
        "\n"
        "Spoken: What is the capital of France?\n"
        "Paris.\n"
        "(first token after 0.250 s, then 8.0 tokens/s; 35 tokens in, 3 out)\n"
        "\n"
        "The same, and written: What does the person say?\n"
        "Paris.\n"
        "(first token after 0.250 s, then 8.0 tokens/s; 35 tokens in, 3 out)\n"
        "\n"
        "Written: What is the capital of Italy?\n"
        "Paris.\n"
        "(first token after 0.250 s, then 8.0 tokens/s; 35 tokens in, 3 out)\n"
    )
    asked = [reply.prompt.messages[0].parts for reply in engine.replies]
    assert asked == [check.parts for check in checks()]
    assert (engine.times_started, engine.times_closed) == (1, 4)


async def test_only_what_the_model_can_do_is_asked() -> None:
    engine = AnsweringModel(["Rome."])
    engine.info = EngineInfo("scripted", 8192, modes=frozenset({"text"}))
    assert "Spoken" not in await report(engine)
    assert len(engine.replies) == 1


@pytest.mark.parametrize(
    ("script", "text"),
    [([EngineError("out of memory")], "out of memory"), ([], "answered nothing")],
)
async def test_a_model_that_does_not_answer_fails_it(script: list[Exception], text: str) -> None:
    engine = AnsweringModel(script)
    engine.info = MODEL
    with pytest.raises(EngineError, match=text):
        await report(engine)
    assert engine.times_closed == 2


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="pip install 'streaming-voice-assistant[words]'")
async def test_the_recording_says_the_sentence() -> None:
    written: list[str] = []
    await selftest(EmbeddedEngine(EmbeddedSettings(tokens_per_s=1000)), written.append)
    assert "“what is the capital of france”" in "".join(written)


def test_the_recording_is_one_that_every_model_takes() -> None:
    (spoken, *_), *_ = (check.parts for check in checks())
    assert 0.1 < len(spoken.samples) / SAMPLE_RATE_HZ < 30  # type: ignore[union-attr]
