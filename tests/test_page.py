"""The page in Chromium against the real server: a person talks to it by a wav."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from assistant.config import Config
from assistant.errors import EngineError
from tests.browser import open_page
from tests.scripted_engine import ScriptedModel
from tests.server import serving
from tests.speech import join, prompt, silence, write_wav

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

expect.set_options(timeout=30_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    async with serving() as address:
        yield f"http://{address}"


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    """A microphone in a silent room."""
    return write_wav(tmp_path / "quiet.wav", silence(1000))


@pytest.fixture
def talking(tmp_path: Path) -> Path:
    """Half a minute in which a person speaks once, after enough time for the call to begin."""
    sound = join(silence(4000), prompt("hello-world"), silence(26_000))
    return write_wav(tmp_path / "talking.wav", sound)


async def start(page: Page) -> None:
    await page.get_by_role("button", name="Start").click()


async def live(page: Page) -> None:
    await expect(page.locator("#activity")).to_have_text("Listening")


async def type_in(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


def reply(page: Page, status: str) -> Locator:
    return page.locator(f".reply[data-status={status}]")


async def test_spoken_words_get_a_reply_that_grows_token_by_token(url: str, talking: Path) -> None:
    async with open_page(url, microphone=talking) as page:
        await page.evaluate(
            """() => {
                window.seen = { doing: [], lengths: [], level: 0 };
                const note = (list, value) => list.at(-1) === value || list.push(value);
                const text = () => document.querySelector(".reply .text")?.textContent ?? "";
                new MutationObserver(() => {
                    note(seen.doing, document.body.dataset.activity);
                    note(seen.lengths, text().length);
                    const level = meter.style.getPropertyValue("--level");
                    seen.level = Math.max(seen.level, level);
                }).observe(document, { subtree: true, childList: true, attributes: true,
                                       characterData: true });
            }"""
        )
        await start(page)
        await expect(reply(page, "completed")).to_be_visible()
        seen = await page.evaluate("window.seen")
        assert seen["doing"] == [
            "asking",
            "connecting",
            "listening",
            "hearing",
            "listening",
            "thinking",
            "replying",
            "listening",
        ]
        assert len(seen["lengths"]) > 10
        assert seen["lengths"] == sorted(seen["lengths"])
        assert seen["level"] > 0.3
        await expect(page.locator(".speech .duration")).to_contain_text(" s")
        await expect(page.locator(".usage")).to_contain_text("input tokens")
        await expect(page.locator("#model")).not_to_be_empty()


async def test_speech_interrupts_a_reply_and_it_shows(url: str, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "repeat.wav", join(silence(5000), prompt("hello-world")))
    async with open_page(url, microphone=sound, repeat=True) as page:
        await start(page)
        await expect(reply(page, "completed")).to_be_visible()
        await type_in(page, "count to twenty")
        interrupted = reply(page, "interrupted")
        await expect(interrupted.get_by_text("You interrupted")).to_be_visible()
        text = await interrupted.locator(".text").inner_text()
        assert "One," in text
        assert "twenty" not in text
        await expect(page.locator(".speech")).not_to_have_count(1)


async def test_the_button_stops_a_reply(url: str, quiet: Path) -> None:
    async with open_page(url, microphone=quiet) as page:
        await start(page)
        await live(page)
        await type_in(page, "count to twenty")
        await expect(page.locator(".reply .text")).to_contain_text("two,")
        await page.get_by_role("button", name="Stop reply").click()
        await expect(reply(page, "stopped").get_by_text("Stopped")).to_be_visible()
        await expect(page.get_by_role("button", name="Stop reply")).to_be_hidden()


async def test_typing_over_a_reply_stops_it_and_is_answered(url: str, quiet: Path) -> None:
    async with open_page(url, microphone=quiet) as page:
        await start(page)
        await live(page)
        await type_in(page, "count to twenty")
        await expect(page.locator(".reply .text")).to_contain_text("two,")
        await type_in(page, "hello")
        await expect(reply(page, "stopped")).to_be_visible()
        await expect(reply(page, "completed")).to_be_visible()
        await expect(page.locator(".error")).to_have_count(0)


async def test_what_the_model_says_is_shown_as_text_and_its_failure_in_words(quiet: Path) -> None:
    model = ScriptedModel()
    async with (
        serving(engine=model) as address,
        open_page(f"http://{address}", microphone=quiet) as page,
    ):
        await start(page)
        await live(page)
        await type_in(page, "<b>hello</b>")
        await expect(page.locator("#activity")).to_have_text("Thinking")
        [scripted] = model.replies
        scripted.says("<img src=x ", "onerror=alert(1)>")
        await expect(page.locator(".reply .text")).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(page.locator(".typed")).to_contain_text("<b>hello</b>")
        await expect(page.locator("#turns :is(img, b)")).to_have_count(0)
        scripted.script.put_nowait(EngineError("The model ran out of memory."))
        await expect(reply(page, "failed")).to_contain_text("The model ran out of memory.")
        await live(page)


async def test_the_end_is_followed_unless_one_reads_further_up(quiet: Path) -> None:
    model = ScriptedModel()
    below = "conversation.scrollHeight - conversation.clientHeight - conversation.scrollTop"
    async with (
        serving(engine=model) as address,
        open_page(f"http://{address}", microphone=quiet) as page,
    ):
        await start(page)
        await live(page)
        await type_in(page, "go on")
        await expect(page.locator("#activity")).to_have_text("Thinking")
        [scripted] = model.replies
        scripted.says(*["line\n"] * 100, "first end")
        await expect(page.locator(".reply .text")).to_contain_text("first end")
        assert await page.evaluate(below) < 1
        await page.evaluate("conversation.scrollTop = 200")
        scripted.says(*["line\n"] * 100, "second end")
        await expect(page.locator(".reply .text")).to_contain_text("second end")
        assert await page.evaluate("conversation.scrollTop") == 200


async def test_a_call_can_be_ended_and_begun_again(url: str, quiet: Path) -> None:
    async with open_page(url, microphone=quiet) as page:
        await start(page)
        await live(page)
        await type_in(page, "hello")
        await expect(reply(page, "completed")).to_be_visible()
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(page.locator("#activity")).to_have_text("The call has ended")
        await expect(page.get_by_label("Message")).to_be_hidden()
        await start(page)
        await live(page)
        await expect(page.locator(".break")).to_be_visible()
        await expect(reply(page, "completed")).to_be_visible()


@pytest.mark.parametrize(
    ("microphone", "words"),
    [("refused", "The microphone was refused"), ("missing", "No microphone was found")],
)
async def test_without_a_microphone_the_page_says_why(
    url: str, microphone: str, words: str
) -> None:
    async with open_page(url, microphone=microphone) as page:
        for _ in range(2):  # The way back is the same button.
            await start(page)
            await expect(page.get_by_role("alert")).to_contain_text(words)


async def test_when_the_server_goes_the_conversation_stays_readable(quiet: Path) -> None:
    async with AsyncExitStack() as running:
        address = await running.enter_async_context(serving())
        async with open_page(f"http://{address}", microphone=quiet) as page:
            await start(page)
            await live(page)
            await type_in(page, "count to twenty")
            await expect(page.locator(".reply .text")).to_contain_text("two,")
            await running.aclose()
            alert = page.get_by_role("alert")
            await expect(alert).to_contain_text("Connection lost")
            await expect(reply(page, "unfinished")).to_contain_text("The call ended here")
            await page.get_by_role("button", name="Start again").click()
            await expect(alert).to_contain_text("The server can't be reached")
            await expect(reply(page, "unfinished")).to_contain_text("two,")


async def test_a_key_is_asked_for_and_kept(quiet: Path) -> None:
    config = Config.load(overrides={"server": {"api_key": "open-sesame"}})
    async with (
        serving(config) as address,
        open_page(f"http://{address}", microphone=quiet) as page,
    ):
        await start(page)
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("This server asks for a key")
        await page.get_by_label("API key").fill("open-barley")
        await page.get_by_role("button", name="Connect").click()
        await expect(alert).to_contain_text("The key was not accepted")
        await page.get_by_label("API key").fill("open-sesame")
        await page.get_by_role("button", name="Connect").click()
        await live(page)
        await page.reload()
        await start(page)
        await live(page)


async def test_a_full_server_says_so(quiet: Path) -> None:
    config = Config.load(overrides={"limits": {"max_sessions": 1}})
    async with (
        serving(config) as address,
        open_page(f"http://{address}", microphone=quiet) as first,
        open_page(f"http://{address}", microphone=quiet) as second,
    ):
        await start(first)
        await live(first)
        await start(second)
        await expect(second.get_by_role("alert")).to_contain_text("can't take a call now")
