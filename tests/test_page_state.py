"""The page's pure modules, run in a browser without any server: events in, state out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route

from tests.browser import open_page

# One browser for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

WEB = Path(__file__).parents[1] / "assistant" / "web"

Event = dict[str, Any]

CALLED: list[Event] = [
    {"type": "call.starting"},
    {"type": "call.connecting"},
    {"type": "session.created", "session": {"model": "a-model"}},
    {"type": "call.live"},
]
SPOKEN: list[Event] = [
    {"type": "input_audio_buffer.speech_started", "item_id": "item_1", "audio_start_ms": 1000},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "item_1", "audio_end_ms": 3400},
    {"type": "input_audio_buffer.committed", "item_id": "item_1", "previous_item_id": None},
    {
        "type": "conversation.item.added",
        "previous_item_id": None,
        "item": {"id": "item_1", "role": "user", "content": [{"type": "input_audio"}]},
    },
]
REPLYING: list[Event] = [
    {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
    {"type": "response.output_text.delta", "response_id": "resp_1", "delta": "Hello"},
    {"type": "response.output_text.delta", "response_id": "resp_1", "delta": ", <b>you</b>"},
]


def done(status: str, **details: Any) -> Event:
    usage = {
        "input_tokens": 90,
        "output_tokens": 2,
        "input_token_details": {"cached_tokens": 60},
    }
    response = {"id": "resp_1", "status": status, "status_details": details, "usage": usage}
    response["metadata"] = {
        "latency.speech_end_ms": "2000",
        "latency.turn_end_ms": "2710",
        "latency.first_token_ms": "0",
        "latency.total_ms": "50",
        "latency.speculation": "hit",
    }
    return {"type": "response.done", "response": response}


def reply(status: str, text: str = "Hello, <b>you</b>", **changes: Any) -> dict[str, Any]:
    usage = {"outputTokens": 2, "inputTokens": 90, "cachedTokens": 60}
    turn = {"id": "resp_1", "kind": "reply", "status": status, "text": text}
    latency = {"holdMs": 710, "firstTokenMs": 0, "tokensPerS": 20, "begunInPause": True}
    return {**turn, "detail": None, "usage": usage, "latency": latency, **changes}


SPEECH = {
    "id": "item_1",
    "kind": "speech",
    "status": "spoken",
    "startMs": 1000,
    "durationMs": 2400,
    "levels": [],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async def from_disk(route: Route) -> None:
        path = route.request.url.removeprefix("http://page.test/").removeprefix("web/")
        await route.fulfill(path=WEB / (path or "index.html"))

    async with open_page("about:blank", microphone="refused") as page:
        await page.route("http://page.test/**", from_disk)
        await page.goto("http://page.test/")
        yield page


async def states(page: Page, events: list[Event]) -> list[dict[str, Any]]:
    """The state after each event, with what it says is going on as `activity`."""
    return await page.evaluate(
        """async (events) => {
            const { activity, initialState, reduce } = await import("/web/conversation.js");
            let state = initialState;
            return events.map((event) => {
                state = reduce(state, event);
                return { ...state, activity: activity(state) };
            });
        }""",
        events,
    )


async def test_what_is_going_on_follows_the_events(page: Page) -> None:
    history = await states(page, [*CALLED, *SPOKEN, *REPLYING, done("completed")])
    assert [state["activity"] for state in history] == [
        "asking",
        "connecting",
        "connecting",
        "listening",
        "hearing",
        "listening",
        "listening",
        "listening",
        "thinking",
        "replying",
        "replying",
        "listening",
    ]
    assert history[-1]["turns"] == [SPEECH, reply("completed")]
    assert history[-1]["model"] == "a-model"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (done("cancelled", reason="turn_detected"), reply("interrupted")),
        (done("cancelled", reason="client_cancelled"), reply("stopped")),
        (done("incomplete", reason="max_output_tokens"), reply("incomplete")),
        (done("failed", error={"message": "Too hot."}), reply("failed", detail="Too hot.")),
        ({"type": "call.ended"}, reply("unfinished", usage=None, latency=None)),
        (
            {"type": "call.failed", "code": "lost", "detail": ""},
            reply("unfinished", usage=None, latency=None),
        ),
    ],
)
async def test_each_ending_of_a_reply_keeps_its_text(
    page: Page, ending: Event, expected: dict[str, Any]
) -> None:
    *_, last = await states(page, [*CALLED, *REPLYING, ending])
    assert last["turns"] == [expected]


async def test_speech_over_a_reply_shows_as_hearing(page: Page) -> None:
    interruption = [SPOKEN[0], done("cancelled", reason="turn_detected")]
    history = await states(page, [*CALLED, *REPLYING, *interruption])
    assert [state["activity"] for state in history[-2:]] == ["hearing", "hearing"]
    assert [turn["status"] for turn in history[-1]["turns"]] == ["interrupted", "speaking"]


async def test_a_lost_call_keeps_the_conversation_and_the_next_begins_below_it(page: Page) -> None:
    lost = {"type": "call.failed", "code": "lost", "detail": "going away"}
    history = await states(page, [*CALLED, SPOKEN[0], lost, *CALLED])
    broken, last = history[len(CALLED) + 1], history[-1]
    assert (broken["activity"], broken["failure"]) == (
        "ended",
        {"code": "lost", "detail": "going away"},
    )
    assert [turn.get("status", turn["kind"]) for turn in last["turns"]] == ["unheard", "break"]
    assert (last["activity"], last["failure"]) == ("listening", None)


async def test_a_spoken_turn_keeps_the_levels_of_its_own_time(page: Page) -> None:
    def level(value: float) -> Event:
        return {"type": "microphone.level", "level": value}

    # 80 ms each. Six from before the server noticed, then what was spoken, then its silence.
    before = [level(value / 100) for value in range(10)]
    during = [level(0.9)] * 20
    after = [level(0.0)] * 30
    *_, last = await states(page, [*CALLED, *before, SPOKEN[0], *during, *after, SPOKEN[1]])
    [turn] = last["turns"]
    assert turn["levels"] == [0.04, 0.05, 0.06, 0.07, 0.08, 0.09, *[0.9] * 20, *[0.0] * 4]


async def test_typed_turns_and_errors_are_part_of_the_conversation(page: Page) -> None:
    item = {"id": "item_2", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    refusal = {"type": "error", "event_id": "event_3", "error": {"code": "x", "message": "No."}}
    events = [*CALLED, {"type": "conversation.item.added", "item": item}, refusal]
    *_, last = await states(page, events)
    assert last["turns"] == [
        {"id": "item_2", "kind": "typed", "text": "hello"},
        {"id": "event_3", "kind": "error", "text": "No."},
    ]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "rate_limits.updated", "rate_limits": []},
        {"type": "toString"},
        {"type": "response.output_text.delta", "response_id": "unknown", "delta": "x"},
        {
            "type": "error",
            "event_id": "event_1",
            "error": {"code": "response_cancel_not_active", "message": "Cancellation failed"},
        },
    ],
)
async def test_what_a_person_need_not_know_changes_nothing(page: Page, event: Event) -> None:
    before, after = (await states(page, [*CALLED, event]))[-2:]
    assert after == before


async def test_levels_on_the_meter(page: Page) -> None:
    levels = await page.evaluate(
        """async () => {
            const { level } = await import("/web/meter.js");
            const square = (amplitude) =>
                Float32Array.from({ length: 256 }, (_, n) => (n % 2 ? amplitude : -amplitude));
            return [0, 0.001, 10 ** (-30 / 20), 1].map((amplitude) => level(square(amplitude)));
        }"""
    )
    # Digital silence, -60 dBFS, the middle of -54 to -6 dBFS, full scale.
    assert levels == [0, 0, pytest.approx(0.5), 1]


async def test_long_speech_is_drawn_coarser_and_keeps_its_peaks(page: Page) -> None:
    strokes = await page.evaluate(
        """async () => {
            const { strokes } = await import("/web/waveform.js");
            const long = Array(1000).fill(0.1).with(500, 0.8);
            return [strokes([]), strokes([0.1, 0.2]), strokes(long)];
        }"""
    )
    assert strokes[:2] == [[], [0.1, 0.2]]
    assert len(strokes[2]) == 48
    assert max(strokes[2]) == 0.8


async def test_words(page: Page) -> None:
    words = await page.evaluate(
        """async () => {
            const { duration, latency, usage } = await import("/web/words.js");
            return [
                duration(2440), duration(59_400), duration(59_600), duration(125_000),
                usage({ outputTokens: 1, inputTokens: 90, cachedTokens: 0 }),
                usage({ outputTokens: 24, inputTokens: 90, cachedTokens: 60 }),
                latency({ holdMs: 710, firstTokenMs: 3, tokensPerS: 24.6, begunInPause: true }),
                latency({ holdMs: null, firstTokenMs: 90, tokensPerS: null, begunInPause: false }),
            ];
        }"""
    )
    assert words == [
        "2.4 s",
        "59.4 s",
        "1:00 min",
        "2:05 min",
        "1 token · 90 input tokens",
        "24 tokens · 60 of 90 input tokens from cache",
        "turn over 0.7 s after the last word · first token after 3 ms, begun in the pause · "
        "25 tokens/s",
        "first token after 90 ms",
    ]


async def test_a_screen_reader_hears_of_calls_and_of_whole_replies(page: Page) -> None:
    interrupted = done("cancelled", reason="turn_detected")
    events = [*CALLED, *SPOKEN, *REPLYING, interrupted, {"type": "call.ended"}]
    announced = await page.evaluate(
        """async (events) => {
            const { initialState, reduce } = await import("/web/conversation.js");
            const { announcement } = await import("/web/words.js");
            let state = initialState;
            return events.map((event) => {
                const before = state;
                state = reduce(state, event);
                return announcement(before, state);
            });
        }""",
        events,
    )
    assert [words for words in announced if words is not None] == [
        "Waiting for the microphone",
        "Connecting",
        "Listening",
        "Hello, <b>you</b>\nYou interrupted",
        "The call has ended",
    ]


async def test_without_a_secure_context_the_page_says_what_to_do(page: Page) -> None:
    await page.get_by_role("button", name="Start talking").click()
    alert = page.get_by_role("alert")
    await alert.get_by_text("The microphone needs a secure page").wait_for()
    await page.get_by_role("button", name="Start again").click()
    await alert.get_by_text("The microphone needs a secure page").wait_for()
