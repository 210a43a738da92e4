"""Our engine: its worker in a process of its own, as on the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from assistant.engines.engine import ModelSession, PrefillReport, ReplyOptions, Started, Text
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.prompt import Message, Prompt, TextPart
from benchmarks.turn_latency.spoken import REPLY_TOKENS, Spoken

AHEAD_TOKENS = 8
"""So many tokens are there when a turn that was begun in the pause is judged over."""
CONVERSATIONS = 8
LONG_UTTERANCE_S = 30.0


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    prompt: Prompt
    report: PrefillReport
    first_text_ms: float
    """From the end of the turn, when the audio is there, to the first piece of text."""
    next_text_ms: float
    """Where it was begun in the pause, from the end of the turn to the first piece of text beyond
    those that are there already."""


@dataclass
class Heard:
    """A reply as it comes."""

    report: PrefillReport | None = None
    texts: list[Text] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def add(self, text: Text) -> None:
        self.texts.append(text)
        self.times_s.append(time.perf_counter())

    @property
    def message(self) -> Message:
        """It, as a part of the next prompt."""
        ids = tuple(id_ for text in self.texts for id_ in text.ids)
        return Message("", "assistant", (TextPart("".join(t.text for t in self.texts), ids),))


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[TransformersEngine]:
    """The engine with the checkpoint in `folder`."""
    settings = TransformersSettings(device="cpu", decode_ahead_tokens=AHEAD_TOKENS)
    running = TransformersEngine(str(folder), settings)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


async def converse(engine: TransformersEngine, turns: int, seed: int) -> list[Turn]:
    """Hold a conversation of so many turns."""
    session = await engine.open_session()
    spoken = Spoken(seed)
    results = []
    for _ in range(turns):
        prompt = spoken.ask()
        begun = time.perf_counter()
        reply = await listen(session, prompt, REPLY_TOKENS)
        assert reply.report is not None
        first_ms = (reply.times_s[0] - begun) * 1000
        next_ms = await _next_text_ms(session, prompt)
        results.append(Turn(prompt, reply.report, first_ms, next_ms))
        spoken.answer(reply.message)
    await session.close()
    return results


async def _next_text_ms(session: ModelSession, prompt: Prompt) -> float:
    """See `Turn`."""
    options = ReplyOptions(max_output_tokens=AHEAD_TOKENS + 1, speculative=True)
    reply = session.reply(prompt, options)
    there = 0
    ended_s = 0.0
    async for event in reply:
        if isinstance(event, Text):
            there += 1
            if there == AHEAD_TOKENS:
                ended_s = time.perf_counter()
                reply.commit()
            elif there > AHEAD_TOKENS:
                return (time.perf_counter() - ended_s) * 1000
    raise AssertionError("these replies never end before their limit")


async def listen(session: ModelSession, prompt: Prompt, tokens: int) -> Heard:
    """A reply of so many tokens."""
    heard = Heard()
    async for event in session.reply(prompt, ReplyOptions(max_output_tokens=tokens)):
        match event:
            case Started():
                heard.report = event.report
            case Text():
                heard.add(event)
    return heard


@dataclass(frozen=True)
class Gaps:
    """What those who are being answered notice of another who begins."""

    usual_ms: float
    """Median time from one token to the next of the same reply."""
    longest_ms: float
    """The same at most, while the other's prompt is taken in."""
    wait_ms: float
    """How long the other waits for its first token."""


async def interrupted(engine: TransformersEngine) -> Gaps:
    """Eight conversations are answered while another says 30 s."""
    replies = [Heard() for _ in range(CONVERSATIONS)]
    under_way = [asyncio.Event() for _ in replies]
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number, heard in enumerate(replies):
            group.create_task(_answered(engine, number, heard, under_way[number], over))
        for event in under_way:
            await event.wait()
        other = await engine.open_session()
        begun = time.perf_counter()
        first = await listen(other, Spoken(1000).ask(LONG_UTTERANCE_S), 1)
        over.set()
    ended = first.times_s[0]
    spans = [span for heard in replies for span in pairwise(heard.times_s)]
    return Gaps(
        usual_ms=median([(b - a) * 1000 for a, b in spans if b < begun]),
        longest_ms=max((b - a) * 1000 for a, b in spans if b > begun and a < ended),
        wait_ms=(ended - begun) * 1000,
    )


async def _answered(
    engine: TransformersEngine,
    number: int,
    heard: Heard,
    under_way: asyncio.Event,
    over: asyncio.Event,
) -> None:
    session = await engine.open_session()
    reply = session.reply(Spoken(100 + number).ask(), ReplyOptions())
    async for event in reply:
        if isinstance(event, Text):
            heard.add(event)
        if len(heard.texts) == REPLY_TOKENS:
            under_way.set()
        if over.is_set():
            break
    await reply.cancel()
