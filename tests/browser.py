"""Test vocabulary: Chromium, with a wav as its microphone."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright

PERMITTED = "--use-fake-ui-for-media-stream"
ARGS = (
    "--no-sandbox",  # Chromium's own sandbox doesn't work inside most containers.
    "--disable-background-networking",
    "--disable-component-update",
)
# Where a Linux sound system would be looked for: so that a machine with a microphone has none.
NO_SOUND = {"PULSE_SERVER": "/nonexistent", "ALSA_CONFIG_PATH": "/dev/null"}
# Chromium says so by itself whenever a request is refused or a connection breaks.
EXPECTED_ERRORS = ("Failed to load resource", "WebSocket connection to")


@asynccontextmanager
async def open_page(
    url: str,
    *,
    microphone: Path | Literal["refused", "missing"],
    repeat: bool = False,
    dark: bool = False,
    width_px: int = 1200,
    height_px: int = 800,
) -> AsyncIterator[Page]:
    """`url` in a Chromium of its own; leaving fails if a script failed or broke the policy.

    `microphone` is a 16-bit PCM wav, which plays from the moment that the page opens the
    microphone: once, then silence; or, with `repeat`, over and over. "refused" is a person who
    doesn't allow it (headless, Chromium refuses what nobody answers).
    """
    env = dict(os.environ)
    match microphone:
        case "refused":
            device = ["--use-fake-device-for-media-stream"]
        case "missing":
            device = [PERMITTED]
            env |= NO_SOUND
        case path:
            sound = f"{path}{'' if repeat else '%noloop'}"
            device = [
                PERMITTED,
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={sound}",
            ]
    errors: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED_ERRORS):
            errors.append(message.text)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=_chromium(), args=[*ARGS, *device], env=env
        )
        page = await browser.new_page(
            viewport={"width": width_px, "height": height_px},
            color_scheme="dark" if dark else "light",
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", on_console)
        await page.goto(url)
        yield page
        await browser.close()
    assert errors == []


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("Chromium is missing; it comes with `apt-get install chromium`")
