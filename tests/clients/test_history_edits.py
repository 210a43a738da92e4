"""A stock client that edits what has been said: removes, inserts and changes items."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.answering_engine import AnsweringModel
from tests.clients.program import installed, program
from tests.clients.scenario import CONFIG, KEY, said
from tests.server import serving

pytestmark = pytest.mark.slow


async def test_openai_agents_npm() -> None:
    model = AnsweringModel(["first answer"], ["second answer"], ["third answer"])
    edit = Path(__file__).with_name("edit_history.mjs")
    modules = installed("node/node_modules")
    async with serving(CONFIG, model) as address:
        command = ("node/.venv/bin/node", edit, f"ws://{address}/v1/realtime", modules)
        async with program(*command, env={"OPENAI_API_KEY": KEY}) as client:
            await client.ended()
    edited = [
        ["user", "inserted"],
        ["user", "first question"],
        ["assistant", "changed"],
        ["assistant", "second answer"],
        ["user", "third question"],
    ]
    assert client.printed == [{"history": [*edited, ["assistant", "third answer"]]}]
    assert said(model.replies[-1].prompt) == edited
