"""Make docs/page.png, the page in conversation for the README: `python -m tests.screenshot`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import expect

from tests.browser import open_page
from tests.server import serving
from tests.speech import join, prompt, silence, write_wav

PICTURE = Path(__file__).parents[1] / "docs" / "page.png"


async def take_screenshot(microphone: Path) -> None:
    """A greeting, a typed request, speech that interrupts its reply, and the answer to that."""
    async with (
        serving() as address,
        open_page(f"http://{address}", microphone=microphone, repeat=True) as page,
    ):
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator(".reply[data-status=completed]")).to_be_visible()
        await page.get_by_label("Message").fill("count to twenty")
        await page.get_by_label("Message").press("Enter")
        await expect(page.locator(".reply[data-status=interrupted]")).to_be_visible()
        await expect(page.locator(".reply[data-status=replying]")).to_contain_text("pitched")
        await page.screenshot(path=PICTURE)


if __name__ == "__main__":
    expect.set_options(timeout=30_000)
    # After the greeting there is time for its answer and for counting to begin.
    sound = join(silence(4000), prompt("hello-world"), silence(6000), prompt("tt-weasels"))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(take_screenshot(write_wav(Path(folder) / "microphone.wav", sound)))
