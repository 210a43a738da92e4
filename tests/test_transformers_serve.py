"""A real server of others, `transformers serve`, answers what the model card's own code does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from assistant.conversation import Message
from assistant.engines.engine import Finished, ReplyOptions, Text
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.errors import EngineError
from tests.dialogue import assistant, prompt, user
from tests.model_card import ModelCard
from tests.speech import prompt as speech
from tests.tiny_models import answers_for_ever, build_qwen2_audio

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("accelerate") is None,
        reason="`transformers serve` needs accelerate: pip install accelerate",
    ),
]
REPLY_TOKENS = 24


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint whose replies end at their length alone."""
    return answers_for_ever(build_qwen2_audio(tmp_path / "tiny-qwen2-audio"))


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a process that serves `model`, sooner or later."""
    cache = tmp_path / "cache"
    (cache / "hub").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = Path(sys.executable).with_name("transformers")
    with subprocess.Popen(
        [command, "serve", model, "--host", "127.0.0.1", "--port", port, "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
    ) as process:
        yield f"http://127.0.0.1:{port}/v1"
        process.kill()


@pytest.fixture
async def engine(model: Path, server: str) -> AsyncIterator[OpenAICompatibleEngine]:
    settings = OpenAICompatibleSettings(base_urls=(server,))
    engine = OpenAICompatibleEngine(str(model), settings)
    while True:
        try:
            await engine.start()
            break
        except EngineError:
            # It loads; the test's own time limit ends this.
            await asyncio.sleep(0.2)
    yield engine
    await engine.close()


async def test_a_conversation(engine: OpenAICompatibleEngine, model: Path) -> None:
    card = ModelCard(model)
    session = await engine.open_session()
    said: list[Message] = []
    for turn in (
        user(speech("hello-world")),
        user("What did I say?"),
        user(speech("digits/7"), "And now?"),
    ):
        said.append(turn)
        options = ReplyOptions(max_output_tokens=REPLY_TOKENS, speculative=True)
        *events, finished = [event async for event in session.reply(prompt(*said), options)]
        reply = "".join(event.text for event in events if isinstance(event, Text))
        assert reply == card.reply(prompt(*said), REPLY_TOKENS)
        assert isinstance(finished, Finished)
        assert finished.reason == "length"
        assert finished.usage.input.total == len(card.prompt_ids(prompt(*said)))
        assert finished.usage.output_tokens == REPLY_TOKENS
        said.append(assistant(reply))
    # It makes one reply at a time: the next can come only where this one is given up.
    endless = session.reply(prompt(*said, user("Go on.")), ReplyOptions(max_output_tokens=7000))
    async for event in endless:
        if isinstance(event, Text):
            break
    await endless.cancel()
    reply = session.reply(prompt(user("Stop.")), ReplyOptions(max_output_tokens=1))
    assert isinstance([event async for event in reply][-1], Finished)
    await session.close()
