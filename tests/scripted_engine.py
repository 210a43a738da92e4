"""Test vocabulary: an engine whose replies say what the test tells them to, when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from assistant.engines.engine import (
    EngineInfo,
    Finished,
    PrefillReport,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    Timings,
    TokenCount,
    Usage,
)
from assistant.prompt import Prompt

COUNT = TokenCount(10, 25)


class ScriptedReply:
    """Yields what is put into `script`; an exception there is raised."""

    def __init__(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> None:
        self.prompt = prompt
        self.options = options
        self.side = side
        self.script: asyncio.Queue[ReplyEvent | Exception] = asyncio.Queue()
        self.committed = False
        self.cancelled = asyncio.Event()
        self._tokens = 0

    def says(self, *texts: str) -> None:
        for number, text in enumerate(texts):
            self._tokens += 1
            self.script.put_nowait(Text(text, (number,)))

    def ends(self) -> None:
        usage = Usage(COUNT, TokenCount(), self._tokens)
        self.script.put_nowait(Finished("stop", usage, Timings(1, 2, 3)))

    async def __aiter__(self) -> AsyncIterator[ReplyEvent]:
        yield Started(PrefillReport(COUNT, TokenCount()))
        while True:
            event = await self.script.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, Finished):
                return

    def commit(self) -> None:
        self.committed = True

    async def cancel(self) -> None:
        self.cancelled.set()


class ScriptedModel:
    """A model session and, for tests that need no more, its own engine."""

    info = EngineInfo("scripted", 8192)

    def __init__(self) -> None:
        self.replies: list[ScriptedReply] = []
        self.prefilled: list[Prompt] = []
        self.prefilling: asyncio.Event | None = None
        """Where there is one, each prefill lasts until it is set."""
        self.closed = False
        self._news = asyncio.Event()

    async def asked(self, times: int) -> None:
        """Wait until so many replies have been asked for."""
        while len(self.replies) < times:
            self._news.clear()
            await self._news.wait()

    async def start(self) -> None: ...

    async def open_session(self) -> ScriptedModel:
        return self

    async def count(self, prompt: Prompt) -> TokenCount:
        return COUNT

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        self.prefilled.append(prompt)
        if self.prefilling:
            await self.prefilling.wait()
        return PrefillReport(COUNT, TokenCount())

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        self.replies.append(ScriptedReply(prompt, options, side=side))
        self._news.set()
        return self.replies[-1]

    async def close(self) -> None:
        self.closed = True
