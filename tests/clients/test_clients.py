"""Stock clients, unmodified, in conversation with the server: spoken, typed and interrupted."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.tls import Certificate, self_signed
from tests.clients.program import EXAMPLES, program
from tests.clients.scenario import CONFIG, CONVERSATION, KEY, TRANSCRIPT, Partner, converse
from tests.server import serving
from tests.speech import at_rate, join, prompt, silence, write_wav

pytestmark = pytest.mark.slow

NODE = "node/.venv/bin/node"
# Where a client writes transcripts into its history by a clock of its own, they are left out.
UNSPOKEN = tuple(entry for entry in CONVERSATION if entry[1] != "(speech)")
IN_WORDS = tuple([role, text.replace("(speech)", TRANSCRIPT)] for role, text in CONVERSATION)

ADDED = [["assistant", 'add({"a": 2, "b": 3})'], ["tool", "5"]]


@dataclass(frozen=True, slots=True)
class Client:
    """One of the examples."""

    name: str
    command: tuple[str, ...]
    """What runs it, below `examples`."""
    url: str
    """How it is told where the server is."""
    options: tuple[str, ...] = ()
    history: tuple[list[str], ...] = tuple(CONVERSATION)
    """What it has of the conversation in the end."""
    instructions: tuple[list[str], ...] = ()
    """What it tells the model beforehand."""
    greeting: tuple[list[str], ...] = ()
    """What the model says to that at once, where it is asked to."""
    adds: bool = False
    """Whether it offers the model to add numbers for it."""


CLIENTS = [
    Client("openai", (sys.executable, "openai/client.py"), "ws://{}/v1"),
    Client("openai-call", (sys.executable, "openai/call.py"), "http://{}/v1"),
    Client("openai-npm", (NODE, "node/openai.mjs"), "https://{}/v1"),
    Client("openai-npm-browser", (NODE, "node/openai.mjs"), "https://{}/v1", ("browser",)),
    Client(
        "openai-agents",
        ("openai_agents/.venv/bin/python", "openai_agents/client.py"),
        "ws://{}/v1/realtime",
        adds=True,
        history=IN_WORDS,
    ),
    Client(
        "openai-agents-npm",
        (NODE, "node/agents.mjs"),
        "ws://{}/v1/realtime",
        adds=True,
        history=IN_WORDS,
    ),
    Client(
        "pipecat",
        ("pipecat/.venv/bin/python", "pipecat/client.py"),
        "ws://{}/v1/realtime",
        instructions=(["system", "You are a helpful assistant. Begin by saying hello."],),
        greeting=(["assistant", "Hello."],),
        adds=True,
        history=UNSPOKEN,
    ),
    Client(
        "livekit",
        ("livekit/.venv/bin/python", "livekit/client.py"),
        "http://{}/v1",
        history=IN_WORDS,
        instructions=(["system", "You are a helpful assistant."],),
        adds=True,
    ),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"), {"127.0.0.1"}, datetime.now(UTC))


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person says "hello world"."""
    sound = at_rate(join(silence(300), prompt("hello-world"), silence(300)), 24_000)
    return write_wav(tmp_path_factory.mktemp("speech") / "hello.wav", sound, 24_000)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_spoken_typed_and_interrupted(
    client: Client, certificate: Certificate, hello: Path
) -> None:
    model = Partner()
    tls = certificate if client.url.startswith("https") else None
    env = {"OPENAI_API_KEY": KEY, "NODE_EXTRA_CA_CERTS": str(certificate.certificate)}
    async with serving(CONFIG, model, tls) as address:
        command = (*client.command, client.url.format(address), *client.options)
        async with program(*command, env=env) as running:
            for _, text in client.greeting:
                assert await running.reads("reply") == text
            await converse(running, hello)
    assert [line for line in running.printed if "error" in line] == []
    history = running.printed[-1]["history"]
    if client.history is UNSPOKEN:
        history = [entry for entry in history if entry[1] != TRANSCRIPT]
    assert history == [*client.greeting, *client.history]
    conversation = CONVERSATION[:-1]
    if client.adds:
        conversation[3:3] = ADDED
    assert model.told == [*client.instructions, *client.greeting, *conversation]


async def test_the_shortest_example_says_a_file_and_prints_the_reply(hello: Path) -> None:
    async with serving(engine=Partner()) as address:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            EXAMPLES / "websocket_client.py",
            hello,
            f"ws://{address}/v1/realtime",
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"I heard you.\n")
