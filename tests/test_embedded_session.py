"""The embedded engine as a model session: what it holds, and how its replies start and end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import datetime

import numpy as np
import pytest

from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.embedded.answers import ABILITIES, INTRODUCTION, WORDLESS, pieces
from assistant.engines.embedded.session import EmbeddedSession
from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
)
from assistant.engines.operations import QueuedReply
from assistant.errors import EngineError
from assistant.prompt import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Message,
    Part,
    Prompt,
    Role,
    TextPart,
)
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.speech import join, noise_floor, silence

NOON = datetime(2026, 11, 21, 12, 0)


class StubWords:
    """A recogniser that has been told what every audio says, by its length."""

    def __init__(self) -> None:
        self.requests: dict[int, str] = {}
        self.fails = False
        self.asked = 0
        self.written = asyncio.Event()
        self.written.set()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def request(self, samples: Int16Array) -> str | None:
        self.asked += 1
        if self.fails:
            raise EngineError("The speech recogniser stopped.")
        return self.requests.get(len(samples))

    async def transcript(self, samples: Int16Array) -> str:
        await self.written.wait()
        return "front center"


class Clock:
    """Instead of sleeping: counts, and lets others run."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def words() -> StubWords:
    return StubWords()


@pytest.fixture
async def session(words: StubWords, clock: Clock) -> AsyncIterator[EmbeddedSession]:
    settings = EmbeddedSettings(decode_ahead_tokens=5)
    engine = EmbeddedEngine(settings, words=words, now=lambda: NOON, sleep=clock.sleep)
    await engine.start()
    session = await engine.open_session()
    yield session
    await session.close()
    await engine.close()


def message(id: str, role: Role, *parts: Part | str) -> Message:
    return Message(id, role, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def user(*parts: Part | str, id: str = "u") -> Message:
    return message(id, "user", *parts)


def hum(seconds: float = 1.0, pitch_hz: float = 140) -> AudioPart:
    """A voiced sound."""
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    saw = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 10))
    return AudioPart.of((6000 * saw).astype(np.int16))


def noisy(part: AudioPart, dbfs: float) -> AudioPart:
    """With a second of pause around it, and noise over all."""
    return AudioPart.of(noise_floor(join(silence(500), part.samples, silence(500)), dbfs))


def ask(session: EmbeddedSession, *messages: Message, **options: object) -> QueuedReply:
    return session.reply(Prompt(messages), ReplyOptions(**options))  # type: ignore[arg-type]


async def all_of(reply: QueuedReply) -> list[ReplyEvent]:
    return [event async for event in reply]


def text_of(events: list[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def said(session: EmbeddedSession, *messages: Message) -> str:
    """The reply to a conversation that has begun: without the introduction."""
    begun = message("a", "assistant", "Hello!")
    return text_of(await all_of(ask(session, begun, *messages)))


async def test_the_first_reply_says_what_it_is(session: EmbeddedSession) -> None:
    events = await all_of(ask(session, user("hello")))
    assert text_of(events) == f"{INTRODUCTION}\n\nHello! What can I do for you?"
    assert "make run MODEL=" in INTRODUCTION
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert INTRODUCTION not in await said(session, user("hello"))


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("What time is it?", "It is 12:00."),
        ("what is the date", "Today is Saturday, 21 November 2026."),
        ("what is 12 plus 30?", "12 plus 30 is 42."),
        ("two times three", "2 times 3 is 6."),
        ("seven minus twelve", "7 minus 12 is -5."),
        ("one two three", "You said 1, 2, 3."),
        ("Goodbye!", "Goodbye, until next time."),
        ("help", ABILITIES),
        ("what did I say", "You hadn't said anything before that."),
        ("Tell me a story.", f"I didn't understand that. {ABILITIES}"),
        ("<|im_end|>", f"I didn't understand that. {ABILITIES}"),
        ("", f"I didn't understand that. {ABILITIES}"),
        ("count to three", "One, two, three."),
        ("count to 0", "I can count from one to a hundred."),
    ],
)
async def test_typed_requests(session: EmbeddedSession, typed: str, answer: str) -> None:
    assert await said(session, user(typed)) == answer


async def test_spoken_requests_are_answered_and_anything_else_is_described(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.requests[SAMPLE_RATE_HZ] = "two plus three"
    assert await said(session, user(hum(1.0))) == "2 plus 3 is 5."
    description = await said(session, user(hum(1.5)))
    assert description.startswith("I heard 1.5 seconds of a voice at -")
    assert "around 140 Hz" in description
    assert description.endswith("Rough transcript: \u201cfront center\u201d")


async def test_the_measures_are_told_while_the_transcript_is_still_made(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.written.clear()
    begun = message("a", "assistant", "Hello!")
    text = ""
    async for event in ask(session, begun, user(hum(1.5))):
        if isinstance(event, Text):
            text += event.text
            if text.endswith("second."):
                words.written.set()
    assert text.endswith("second. Rough transcript: \u201cfront center\u201d")


async def test_a_transcript_that_nobody_waits_for_any_more_is_abandoned(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.written.clear()
    reply = ask(session, user(hum(1.5)))
    async for event in reply:
        if isinstance(event, Text):
            await reply.cancel()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("part", [hum(7.0), noisy(hum(1.0), -28)], ids=["long", "noisy"])
async def test_what_can_hardly_be_a_request_is_not_taken_for_one(
    session: EmbeddedSession, words: StubWords, part: AudioPart
) -> None:
    words.requests[len(part.samples)] = "hello"
    assert "of a voice" in await said(session, user(part))
    assert words.asked == 0


async def test_without_a_recogniser_it_says_that_it_has_no_words(clock: Clock) -> None:
    engine = EmbeddedEngine(EmbeddedSettings(words=False), sleep=clock.sleep)
    session = await engine.open_session()
    assert (await said(session, user(hum(1.5)))).endswith(f"second. {WORDLESS}")
    assert await said(session, user("2 + 3")) == "2 plus 3 is 5."


async def test_what_was_said_is_written_down_where_that_is_asked_for(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.requests[SAMPLE_RATE_HZ * 2] = "what time is it"
    heard = user(hum(1.0), hum(2.0), "Write down what is said.")
    reply = session.reply(Prompt((heard,), task="transcription"), ReplyOptions(), side=True)
    assert text_of(await all_of(reply)) == "front center what time is it"


async def test_without_a_recogniser_nothing_can_be_written_down(clock: Clock) -> None:
    engine = EmbeddedEngine(EmbeddedSettings(words=False), sleep=clock.sleep)
    session = await engine.open_session()
    reply = session.reply(Prompt((user(hum()),), task="transcription"), ReplyOptions(), side=True)
    with pytest.raises(EngineError, match="make out words"):
        await all_of(reply)


async def test_functions_and_what_came_of_them_are_taken_in(session: EmbeddedSession) -> None:
    call = Message("c", "assistant", (FunctionCall("1", "f", "{}"),))
    output = Message("o", "tool", (FunctionOutput("1", "sunny"),))
    before = await session.count(Prompt((user("hello"),)))
    after = await session.count(Prompt((user("hello"), call, output)))
    assert after.total - before.total == 5  # Two roles, and three words.
    assert await said(session, user("hello"), call, output) == "Hello! What can I do for you?"


async def test_a_question_about_a_sound_gets_the_sound_described(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.requests[SAMPLE_RATE_HZ] = "hello"
    for turn in (user("What is this?", hum()), user(hum(), "What is this?")):
        assert "1.0 seconds of a voice" in await said(session, turn)


async def test_silence_is_called_silence(session: EmbeddedSession) -> None:
    silence = AudioPart.of(np.zeros(SAMPLE_RATE_HZ, np.int16))
    assert await said(session, user(silence)) == "I heard 1.0 seconds of silence (-100 dBFS)."


async def test_what_did_i_say_comes_from_the_prompt(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.requests[SAMPLE_RATE_HZ] = "goodbye"
    echo = user("what did I say", id="e")
    assert await said(session, user("Tea."), echo) == "Before that, you typed: \u201cTea.\u201d."
    assert "you said: \u201cgoodbye\u201d" in await said(session, user(hum(1.0)), echo)
    rough = await said(session, user(hum(1.5)), echo)
    assert "you said (rough transcript): \u201cfront center\u201d" in rough


async def test_counting_can_be_interrupted_anywhere(session: EmbeddedSession, clock: Clock) -> None:
    reply = ask(session, message("a", "assistant", "Hi."), user("count to twenty"))
    heard = []
    async for event in reply:
        if isinstance(event, Text):
            heard.append(event.text)
        if len(heard) == 7:
            await reply.cancel()
    assert heard == ["One,", " two,", " three,", " four,", " five,", " six,", " seven,"]
    assert clock.slept_s >= 3


async def test_what_is_held_is_reused_and_what_no_longer_fits_is_dropped(
    session: EmbeddedSession,
) -> None:
    first = user(hum(2.0), id="1")
    events = await all_of(ask(session, first))
    started, *texts, finished = events
    assert isinstance(started, Started) and isinstance(finished, Finished)
    assert started.report.prompt == TokenCount(text=1, audio=50)
    assert started.report.reused == TokenCount()
    assert finished.usage.output_tokens == len(texts)

    ids = tuple(id for event in texts if isinstance(event, Text) for id in event.ids)
    reply = message("2", "assistant", TextPart(text_of(events), ids))
    events = await all_of(ask(session, first, reply, user("hello", id="3")))
    report = events[0].report  # type: ignore[union-attr]
    assert report.reused.audio == 50
    assert report.prompt.text - report.reused.text == 2  # the new turn's role and its one word

    # Interrupted after three tokens: they are held, the others were dropped.
    cut = message("2", "assistant", TextPart("x", ids[:3]))
    report = await session.prefill(Prompt((first, cut)))
    assert report.reused == TokenCount(text=1 + 1 + 3, audio=50)
    assert report.dropped_tokens > 0
    # Another audio at the front, and nothing fits any more.
    report = await session.prefill(Prompt((user(hum(3.0), id="1"), cut)))
    assert report.reused == TokenCount(text=1)
    assert await session.count(Prompt((first, cut))) == TokenCount(text=5, audio=50)


async def test_a_reply_ahead_waits_at_its_bound_for_the_commit(session: EmbeddedSession) -> None:
    reply = ask(session, user("hello"), speculative=True)
    texts: list[ReplyEvent] = []
    done = asyncio.Event()

    async def read() -> None:
        async for event in reply:
            texts.append(event)
        done.set()

    reading = asyncio.create_task(read())
    for _ in range(200):
        await asyncio.sleep(0)
    assert len([event for event in texts if isinstance(event, Text)]) == 5
    reply.commit()
    await done.wait()
    await reading
    assert text_of(texts).endswith("What can I do for you?")


async def test_the_longest_reply_is_what_was_asked_for(session: EmbeddedSession) -> None:
    *_, finished = events = await all_of(ask(session, user("hello"), max_output_tokens=3))
    assert isinstance(finished, Finished) and finished.reason == "length"
    assert [e.text for e in events if isinstance(e, Text)] == [
        piece.text for piece in pieces(INTRODUCTION)[:3]
    ]


async def test_another_main_reply_cancels_the_first_and_a_side_reply_does_not(
    session: EmbeddedSession,
) -> None:
    begun = message("a", "assistant", "Hi.")
    first = aiter(ask(session, begun, user("count to twenty")))
    assert isinstance(await anext(first), Started)
    side = session.reply(Prompt((begun, user("hello"))), ReplyOptions(), side=True)
    assert text_of(await all_of(side)) == "Hello! What can I do for you?"
    assert isinstance(await anext(first), Text)
    held = (await session.prefill(Prompt((begun,)))).reused.text
    assert held == 2
    assert [event async for event in first if isinstance(event, Finished)] == []


@pytest.mark.parametrize("turns", range(5))
async def test_a_reply_can_be_cancelled_while_it_waits_for_the_one_before(
    session: EmbeddedSession, turns: int
) -> None:
    begun = message("a", "assistant", "Hi.")
    first = aiter(ask(session, begun, user("count to twenty")))
    await anext(first)
    second = ask(session, begun, user("hello"))
    reading = asyncio.create_task(all_of(second))
    for _ in range(turns):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await second.cancel()
    assert await said(session, user("hello")) == "Hello! What can I do for you?"


async def test_a_recogniser_that_fails_fails_the_reply_alone(
    session: EmbeddedSession, words: StubWords
) -> None:
    words.fails = True
    with pytest.raises(EngineError, match="recogniser stopped"):
        await all_of(ask(session, user(hum())))
    words.fails = False
    assert await said(session, user(hum()))
    assert words.asked == 2
    await said(session, user(hum()))
    assert words.asked == 2  # remembered


async def test_text_beyond_the_context_is_refused(session: EmbeddedSession) -> None:
    with pytest.raises(EngineError, match="too long: 300000 characters"):
        await all_of(ask(session, user("x " * 150_000)))
    assert await said(session, user("hello"))


async def test_a_closed_session_takes_no_more(session: EmbeddedSession) -> None:
    await session.close()
    with pytest.raises(EngineError, match="closed"):
        await all_of(ask(session, user("hello")))


async def test_a_thousand_cancelled_replies_leave_nothing(session: EmbeddedSession) -> None:
    threads = threading.active_count()
    for number in range(1000):
        reply = ask(session, user("count to twenty"), speculative=bool(number % 2))
        events = aiter(reply)
        for _ in range(number % 4):
            await anext(events)
        await reply.cancel()
        await events.aclose()  # type: ignore[attr-defined]
    await session.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert threading.active_count() <= threads + 8
