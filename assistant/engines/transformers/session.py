"""One conversation with the worker, as the event loop sees it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex
from typing import Self

from assistant.engines.engine import PrefillReport, ReplyEvent, ReplyOptions, Started, TokenCount
from assistant.engines.transformers.calls import CallReader
from assistant.engines.transformers.connection import Call, WorkerConnection
from assistant.engines.transformers.messages import (
    Count,
    Generate,
    Hear,
    audio_of,
    without_samples,
)
from assistant.errors import EngineError
from assistant.prompt import Prompt


class TransformersSession:
    """A ModelSession. What is computed of a conversation, and its audio, stays with the worker.

    A worker that was lost takes nothing along but time, since prompts are declared whole.
    """

    def __init__(self, session_id: int, connect: Callable[[], Awaitable[WorkerConnection]]) -> None:
        """`connect` returns the worker as soon as there is one that is loaded."""
        self.id = session_id
        self._connect = connect
        self._worker: WorkerConnection | None = None
        """Who holds this conversation's audio."""
        self._held: set[str] = set()
        """The digests of that audio."""
        self._sending = asyncio.Lock()
        self._main: TransformersReply | None = None
        self._closed = False

    async def count(self, prompt: Prompt) -> TokenCount:
        """How many tokens `prompt` takes. Raises EngineError."""
        async with self.informed_worker(prompt) as worker:
            bare = without_samples(prompt)
            call = worker.call(lambda id_: Count(id_, self.id, bare))
        count = await call.next()
        assert isinstance(count, TokenCount)
        return count

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        """Bring the kept state to the end of `prompt`.

        All of the report is 0 where a newer operation took its place. Raises EngineError.
        """
        report = PrefillReport(TokenCount(), reused=TokenCount())
        reply = self.reply(prompt, ReplyOptions(max_output_tokens=0, speculative=True))
        try:
            async for event in reply:
                if isinstance(event, Started):
                    report = event.report
        finally:
            await reply.cancel()
        return report

    def reply(
        self, prompt: Prompt, options: ReplyOptions, *, side: bool = False
    ) -> TransformersReply:
        """Answer `prompt`. Work begins when the reply is iterated."""
        return TransformersReply(self, prompt, options, side=side)

    async def close(self) -> None:
        """End what runs, and have the worker forget the conversation. Idempotent.

        Waits for nothing: a worker that is busy follows later.
        """
        self._closed = True
        worker, self._worker = self._worker, None
        if worker and worker.lost is None:
            worker.forget(self.id)

    def take_over(self, reply: TransformersReply) -> TransformersReply | None:
        """Make `reply` the main one; returns the one before it, which must be cancelled first."""
        previous, self._main = self._main, reply
        return previous

    @asynccontextmanager
    async def informed_worker(
        self, prompt: Prompt, *, drop_rest: bool = False
    ) -> AsyncIterator[WorkerConnection]:
        """The worker, once it has the audio that `prompt` names.

        Ask it within the context, in which nothing else is sent for this conversation. With
        `drop_rest`, other audio is dropped by what is asked. Raises EngineError.
        """
        async with self._sending:
            worker = await self._connect()
            self._check_open()
            if worker is not self._worker:
                self._worker, self._held = worker, set()
            audio = audio_of(prompt)
            for digest, part in audio.items():
                if digest not in self._held:
                    self._held.add(digest)
                    await worker.send(Hear(self.id, digest, part.samples))
                    self._check_open()
            yield worker
            if drop_rest:
                self._held = set(audio)

    def _check_open(self) -> None:
        # After every wait: nothing may be sent for a conversation that the worker has forgotten.
        if self._closed:
            raise EngineError("The conversation is closed.")


class TransformersReply:
    """A Reply in the making."""

    def __init__(
        self, session: TransformersSession, prompt: Prompt, options: ReplyOptions, *, side: bool
    ) -> None:
        self._session = session
        self._prompt = prompt
        self._options = options
        self._side = side
        self._call: Call | None = None
        self._cancelled = False
        self._reader: CallReader | None = None
        self._read: deque[ReplyEvent] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReplyEvent:
        if self._call is None and not self._cancelled:
            await self._begin()
        while not self._read and (event := await self._next()):
            self._read.extend(self._reader.read(event) if self._reader else [event])
        if not self._read or self._cancelled:
            raise StopAsyncIteration
        return self._read.popleft()

    async def _next(self) -> ReplyEvent | None:
        event = await self._call.next() if self._call else None
        assert not isinstance(event, TokenCount)
        return event

    def commit(self) -> None:
        """The turn is real: lifts the bound on decoding ahead."""
        self._options = replace(self._options, speculative=False)
        if self._call:
            self._call.commit()

    async def cancel(self) -> None:
        """Stop at the next token; returns when the session may be used again. Idempotent."""
        self._cancelled = True
        if self._call:
            await self._call.cancel()

    async def _begin(self) -> None:
        asked_s = time.monotonic()
        session, prompt = self._session, self._prompt
        previous = None if self._side else session.take_over(self)
        if previous:
            await previous.cancel()
        async with session.informed_worker(prompt, drop_rest=not self._side) as worker:
            # Both may have changed while all this was awaited.
            if self._cancelled:
                return
            if prompt.tools and worker.calls:
                self._reader = CallReader(worker.calls, lambda: f"call_{token_hex(8)}")
            options, bare = self._options, without_samples(prompt)
            self._call = worker.call(
                lambda id_: Generate(id_, session.id, bare, options, self._side, asked_s)
            )
