"""Pages on another origin call the server: a bare one, and one with the OpenAI Agents SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from playwright.async_api import Page, expect

from assistant.config import Config
from tests.browser import open_page
from tests.clients.program import EXAMPLES, installed
from tests.clients.scenario import CONVERSATION, KEY, Partner
from tests.server import serving
from tests.speech import join, prompt, silence, write_wav

pytestmark = pytest.mark.slow


@contextmanager
def website(folder: Path) -> Iterator[str]:
    """The folder's files, served on an origin of their own."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def type_in(page: Page, text: str) -> None:
    await page.get_by_label("Talk, or type").fill(text)
    await page.get_by_label("Talk, or type").press("Enter")


async def short_lived_key(address: str) -> str:
    async with AsyncOpenAI(base_url=f"http://{address}/v1", api_key=KEY) as sdk:
        return (await sdk.realtime.client_secrets.create()).value


@pytest.mark.parametrize("page_name", ["index.html", "agents.html"])
async def test_spoken_typed_and_interrupted(page_name: str, tmp_path: Path) -> None:
    if page_name == "agents.html":
        installed("node/node_modules")
    model = Partner()
    # Said over and over: first to be answered, then to interrupt.
    microphone = write_wav(tmp_path / "voice.wav", join(silence(5000), prompt("hello-world")))
    with website(EXAMPLES) as origin:
        config = Config.load(overrides={"server": {"api_key": KEY, "allowed_origins": [origin]}})
        url = f"{origin}/browser/{page_name}"
        async with (
            serving(config, model) as address,
            open_page(url, microphone=microphone, repeat=True) as page,
        ):
            key = KEY if page_name == "index.html" else await short_lived_key(address)
            over = page.locator(".assistant:is([data-status=completed], [data-status=incomplete])")
            await page.get_by_label("Server").fill(f"http://{address}")
            await page.get_by_label("Key").fill(key)
            await page.get_by_role("button", name="Call").click()
            await expect(over).to_have_text(["I heard you."], timeout=30_000)
            await type_in(page, "two plus three")
            await expect(over).to_have_count(2)
            await type_in(page, "count to twenty")
            await expect(over).to_have_count(4, timeout=30_000)
            entries = await page.locator("#conversation li").evaluate_all(
                "entries => entries.map((entry) => [entry.className, entry.textContent])"
            )
            statuses = await over.evaluate_all("them => them.map((one) => one.dataset.status)")
    assert entries == CONVERSATION[:8]
    assert statuses == ["completed", "completed", "incomplete", "completed"]
    assert model.told == CONVERSATION[:7]
