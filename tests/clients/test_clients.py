"""Stock clients, unmodified, in conversation with the server: spoken, typed and interrupted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.config import Config
from assistant.conversation import AudioPart, Message
from assistant.tls import Certificate, self_signed
from tests.answering_engine import AnsweringModel
from tests.clients.program import Program, program
from tests.server import serving
from tests.speech import at_rate, join, prompt, silence, write_wav

pytestmark = pytest.mark.slow

KEY = "open-sesame"
CONFIG = Config.load(overrides={"server": {"api_key": KEY}})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"), {"127.0.0.1"}, datetime.now(UTC))


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person says "hello world", and is silent for longer than turns need to end."""
    sound = join(silence(300), prompt("hello-world"), silence(1500))
    return write_wav(tmp_path_factory.mktemp("speech") / "hello.wav", at_rate(sound, 24_000), 24_000)


def said(messages: tuple[Message, ...]) -> list[list[str]]:
    """Who said what, as the model was told it."""
    return [
        [
            message.role,
            " ".join(
                "(speech)" if isinstance(part, AudioPart) else part.text for part in message.parts
            ),
        ]
        for message in messages
    ]


SCRIPTS = ["I ", "heard ", "you."], ["Five."], ["One,", " two,", ...], ["You interrupted."]
CONVERSATION = [
    ["user", "(speech)"],
    ["assistant", "I heard you."],
    ["user", "two plus three"],
    ["assistant", "Five."],
    ["user", "count to twenty"],
    ["assistant", "One, two,"],
    ["user", "(speech)"],
    ["assistant", "You interrupted."],
]


async def converse(client: Program, hello: Path) -> None:
    """Speak, type, ask for something long and interrupt it by speech."""
    client.told(hello)
    assert await client.reply() == ("I heard you.", True)
    client.told("two plus three")
    assert await client.reply() == ("Five.", True)
    client.told("count to twenty")
    assert await client.reads("text") == "One,"
    assert await client.reads("text") == " two,"
    client.told(hello)
    assert await client.reply() == ("One, two,", False)
    assert await client.reply() == ("You interrupted.", True)
    await client.ended()


@pytest.mark.parametrize("kind", ["node", "browser"])
async def test_openai_npm(kind: str, certificate: Certificate, hello: Path) -> None:
    model = AnsweringModel(*SCRIPTS)
    command = ("node/.venv/bin/node", "node/openai.mjs")
    env = {"OPENAI_API_KEY": KEY, "NODE_EXTRA_CA_CERTS": str(certificate.certificate)}
    async with (
        serving(CONFIG, model, certificate) as address,
        program(*command, f"https://{address}/v1", kind, env=env) as client,
    ):
        await converse(client, hello)
    assert client.printed[-1] == {"history": CONVERSATION}
    assert said(model.replies[-1].prompt.messages) == CONVERSATION[:-1]


async def test_openai_agents_python(hello: Path) -> None:
    model = AnsweringModel(*SCRIPTS)
    command = ("openai_agents/.venv/bin/python", "openai_agents/client.py")
    async with (
        serving(CONFIG, model) as address,
        program(
            *command, f"ws://{address}/v1/realtime", env={"OPENAI_API_KEY": KEY}
        ) as client,
    ):
        await converse(client, hello)
    assert client.printed[-1] == {"history": CONVERSATION}
    assert said(model.replies[-1].prompt.messages) == CONVERSATION[:-1]


async def test_openai_agents_npm(hello: Path) -> None:
    model = AnsweringModel(*SCRIPTS)
    command = ("node/.venv/bin/node", "node/agents.mjs")
    async with (
        serving(CONFIG, model) as address,
        program(
            *command, f"ws://{address}/v1/realtime", env={"OPENAI_API_KEY": KEY}
        ) as client,
    ):
        await converse(client, hello)
    assert client.printed[-1] == {"history": CONVERSATION}
    assert said(model.replies[-1].prompt.messages) == CONVERSATION[:-1]
