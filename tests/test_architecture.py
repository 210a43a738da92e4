"""The walls between the parts, read off the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path for package in ("audio_io", "assistant") for path in (ROOT / package).rglob("*.py")
)
# The pure parts: no clock, no I/O, no event loop.
PURE = [
    "audio_io/endpointer.py",
    "audio_io/confirmation.py",
    "audio_io/continuity.py",
    "assistant/conversation.py",
    "assistant/prompt.py",
    "assistant/rate_limit.py",
    "assistant/turns.py",
    "assistant/view.py",
    "assistant/wrapping.py",
    "assistant/realtime/beside.py",
    "assistant/realtime/client_items.py",
    "assistant/realtime/client_model.py",
    "assistant/realtime/dialogue.py",
    "assistant/chat/completion.py",
    "assistant/chat/dashscope.py",
    "assistant/chat/exchange.py",
    "assistant/chat/requests.py",
    "assistant/engines/dashscope/wire.py",
    "assistant/engines/openai_compatible/failures.py",
    "assistant/engines/openai_compatible/listing.py",
    "assistant/engines/openai_compatible/wire.py",
    "assistant/engines/remote/audio.py",
    "assistant/engines/remote/estimate.py",
    "assistant/engines/remote/failures.py",
    "assistant/engines/remote/servers.py",
    "assistant/realtime/effects.py",
    "assistant/realtime/events.py",
    "assistant/realtime/history.py",
    "assistant/realtime/items.py",
    "assistant/realtime/latency.py",
    "assistant/realtime/open_turn.py",
    "assistant/realtime/prompting.py",
    "assistant/realtime/quiet.py",
    "assistant/realtime/requests.py",
    "assistant/realtime/responder.py",
    "assistant/realtime/response.py",
    "assistant/realtime/secrets.py",
    "assistant/realtime/session.py",
    "assistant/realtime/settings.py",
    "assistant/realtime/tools.py",
    "assistant/realtime/transcripts.py",
    "assistant/realtime/truncation.py",
    "assistant/realtime/usage.py",
]
IMPURE = {"asyncio", "time", "datetime", "socket", "threading", "queue", "os", "pathlib", "random"}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{path}: relative import")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_walls(path: Path) -> None:
    where = path.relative_to(ROOT)
    for module in imports(path):
        top = module.partition(".")[0]
        if where.parts[0] == "audio_io":
            assert top != "assistant", f"{where} knows {module}"
        if top in ("torch", "transformers"):
            assert where.is_relative_to("assistant/engines/transformers")
        if top == "openai":
            assert where.is_relative_to("assistant/engines/openai_compatible")
        if top in ("dashscope", "aiohttp"):
            assert where.is_relative_to("assistant/engines/dashscope")
        if top == "sounddevice":
            assert where.name in ("microphone.py", "speaker.py", "echo.py")
        if module == "audio_io.microphone":
            assert str(where) in ("assistant/talk.py", "assistant/commands.py")
        if top == "fastrtc":
            assert where.name == "fastrtc_stream.py"
        if where.parts[:2] == ("assistant", "engines"):
            assert not module.startswith(("assistant.realtime", "assistant.server"))


@pytest.mark.parametrize("name", PURE)
def test_pure_parts_know_no_clock_and_no_io(name: str) -> None:
    assert {module.partition(".")[0] for module in imports(ROOT / name)} & IMPURE == set()
