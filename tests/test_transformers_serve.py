"""A real server of others, `transformers serve`, answers what the model card's own code does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from assistant.engines.engine import Finished, ReplyOptions, Text
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.errors import EngineError
from assistant.prompt import Message
from tests.dialogue import assistant, prompt, user
from tests.model_card import ModelCard
from tests.speech import prompt as speech
from tests.tiny_models import answers_for_ever, build_qwen2_audio

pytestmark = pytest.mark.slow
_NEEDED = "`transformers serve` needs accelerate: pip install accelerate"
pytest.importorskip("accelerate", reason=_NEEDED)
psutil = pytest.importorskip("psutil", reason=_NEEDED)
REPLY_TOKENS = 24


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint whose replies end at their length alone."""
    return answers_for_ever(build_qwen2_audio(tmp_path / "tiny-qwen2-audio"))


class Served(NamedTuple):
    base_url: str
    process_id: int

    def cpu_s(self) -> float:
        """The CPU time that it has taken so far."""
        times = psutil.Process(self.process_id).cpu_times()
        return float(times.user + times.system)


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[Served]:
    """A process that serves `model`, sooner or later."""
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
        yield Served(f"http://127.0.0.1:{port}/v1", process.pid)
        process.kill()


@pytest.fixture
async def engine(model: Path, server: Served) -> AsyncIterator[OpenAICompatibleEngine]:
    settings = OpenAICompatibleSettings(base_urls=(server.base_url,))
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
    await session.close()


async def test_a_reply_that_is_given_up_costs_the_server_no_more(
    engine: OpenAICompatibleEngine, server: Served
) -> None:
    session = await engine.open_session()

    async def reply(tokens: int, *, give_up: bool) -> None:
        options = ReplyOptions(max_output_tokens=tokens, speculative=True)
        reply = session.reply(prompt(user("Go on.")), options)
        async for event in reply:
            if isinstance(event, Text) and give_up:
                break
        await reply.cancel()

    # The first takes what is done once.
    await reply(2, give_up=False)
    begun_s = server.cpu_s()
    await reply(400, give_up=False)
    of_400_tokens_s = server.cpu_s() - begun_s
    for _ in range(3):
        await reply(7000, give_up=True)
    # It makes one reply at a time: this one comes after whatever is done of those.
    await reply(1, give_up=False)
    of_21000_tokens_s = server.cpu_s() - begun_s - of_400_tokens_s
    assert of_21000_tokens_s < 5 * of_400_tokens_s
    await session.close()
