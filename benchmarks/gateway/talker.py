"""An engine that costs next to nothing: its tokens come by the clock."""

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

TOKENS = 50
TOKENS_PER_S = 25
NOTHING = TokenCount()


class TalkerReply:
    """TOKENS words, the first at once."""

    def __init__(self) -> None:
        self._cancelled = False

    async def __aiter__(self) -> AsyncIterator[ReplyEvent]:
        yield Started(PrefillReport(NOTHING, NOTHING))
        for token in range(TOKENS):
            yield Text(" word", (token,))
            await asyncio.sleep(1 / TOKENS_PER_S)
            if self._cancelled:
                return
        yield Finished("stop", Usage(NOTHING, NOTHING, TOKENS), Timings(0, 0, 0))

    def commit(self) -> None: ...

    async def cancel(self) -> None:
        self._cancelled = True


class Talker:
    """The engine, and each of its sessions: it keeps nothing of any."""

    info = EngineInfo("talker", 1_000_000)

    async def start(self) -> None: ...

    async def open_session(self) -> Talker:
        return self

    async def count(self, prompt: Prompt) -> TokenCount:
        return NOTHING

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        return PrefillReport(NOTHING, NOTHING)

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> TalkerReply:
        return TalkerReply()

    async def close(self) -> None: ...
