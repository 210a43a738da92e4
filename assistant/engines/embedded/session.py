"""A conversation's session of the embedded engine, and its replies.

It keeps what a model would keep: the tokens that it has taken in and said. A prompt is compared
with them; the longest common prefix counts as reused, the rest as dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, assert_never

from assistant.conversation import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Prompt,
    TextPart,
    written_in,
)
from assistant.engines.embedded.answers import answer, audios_in, pieces, user_turns
from assistant.engines.embedded.hearing import Ears
from assistant.engines.embedded.settings import EmbeddedSettings
from assistant.engines.engine import (
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
from assistant.errors import EngineError
from audio_io.pcm import SAMPLE_RATE_HZ

AUDIO_TOKENS_PER_S = 25
"""Qwen2-Audio's."""
CONTEXT_TOKENS = 262_144
"""Of its own making: hours of audio, and more text than a conversation may hold."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held:
    """Something taken in: one token of text, or a whole audio, which can't be taken in parts."""

    key: str | int
    tokens: TokenCount


class EmbeddedSession:
    """One conversation; see `ModelSession`."""

    def __init__(
        self,
        ears: Ears,
        settings: EmbeddedSettings,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ears = ears
        self._settings = settings
        self._now = now
        self._sleep = sleep
        self._held: list[_Held] = []
        self._main: asyncio.Task[Any] | None = None
        self._side: set[asyncio.Task[Any]] = set()
        self._taking_over = asyncio.Lock()
        self._closed = False

    async def count(self, prompt: Prompt) -> TokenCount:
        return _total(_tokens(prompt))

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        return await (await self._begin(lambda: self._take_in(prompt)))

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> EmbeddedReply:
        return EmbeddedReply(
            lambda reply: self._answer(reply, prompt, options, keep=not side),
            self._begin_beside if side else self._begin,
            committed=not options.speculative,
        )

    async def close(self) -> None:
        self._closed = True
        running = [task for task in (self._main, *self._side) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _begin(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Make `work` the main operation, once the unfinished one is cancelled."""
        async with self._taking_over:
            if self._main is not None and not self._main.done():
                self._main.cancel()
                await asyncio.wait([self._main])
            task = self._task(work)
            self._main = task
            return task

    async def _begin_beside(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        task = self._task(work)
        self._side.add(task)
        task.add_done_callback(self._side.discard)
        return task

    def _task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        if self._closed:
            raise EngineError("The session is closed.")
        return asyncio.create_task(work(), name="embedded engine")

    async def _take_in(self, prompt: Prompt, *, keep: bool = True) -> PrefillReport:
        """Listen to what the newest turn said, and hold `prompt` from now on."""
        for turn in user_turns(prompt)[-1:]:
            for audio in audios_in(turn):
                await self._ears.hear(audio)
        tokens = _tokens(prompt)
        common = _common(self._held, tokens)
        report = PrefillReport(
            prompt=_total(tokens),
            reused=_total(tokens[:common]),
            dropped_tokens=_total(self._held[common:]).total if keep else 0,
        )
        if keep:
            self._held = tokens
        return report

    async def _answer(
        self, reply: EmbeddedReply, prompt: Prompt, options: ReplyOptions, *, keep: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()

        def since_ms() -> float:
            return (loop.time() - begun_s) * 1000

        report = await self._take_in(prompt, keep=keep)
        prefill_ms = first_token_ms = since_ms()
        reply.put(Started(report))
        said = 0
        reason: Literal["stop", "length"] = "stop"
        async with aclosing(answer(prompt, self._ears, self._now())) as answering:
            async for piece in answering:
                if said == options.max_output_tokens:
                    reason = "length"
                    break
                if said:
                    await self._sleep(piece.pause_s + 1 / self._settings.tokens_per_s)
                if said >= self._settings.decode_ahead_tokens:
                    await reply.committed.wait()
                if not said:
                    first_token_ms = since_ms()
                    if keep:
                        self._held.append(_marker("assistant"))
                if keep:
                    self._held.append(_piece(piece.id))
                reply.put(Text(piece.text, (piece.id,)))
                said += 1
        usage = Usage(report.prompt, report.reused, said)
        reply.put(Finished(reason, usage, Timings(prefill_ms, first_token_ms, since_ms())))


class EmbeddedReply:
    """One reply; see `Reply`. Its work is a task that starts with the iteration."""

    def __init__(
        self,
        work: Callable[[EmbeddedReply], Coroutine[Any, Any, None]],
        begin: Callable[[Callable[[], Coroutine[Any, Any, None]]], Awaitable[asyncio.Task[None]]],
        *,
        committed: bool,
    ) -> None:
        self.committed = asyncio.Event()
        if committed:
            self.committed.set()
        self._work = work
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._events: asyncio.Queue[ReplyEvent | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[ReplyEvent]:
        if self._cancelled:
            return
        self._task = await self._begin(lambda: self._work(self))
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            while (event := await self._events.get()) is not None and not self._cancelled:
                yield event
            if not self._task.cancelled() and (error := self._task.exception()):
                raise error
        finally:
            await self.cancel()

    def put(self, event: ReplyEvent) -> None:
        """Called by the work: the next event."""
        self._events.put_nowait(event)

    def commit(self) -> None:
        self.committed.set()

    async def cancel(self) -> None:
        self._cancelled = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


def _tokens(prompt: Prompt) -> list[_Held]:
    """What `prompt` takes: a token for each message's role, each piece of text, each 40 ms.

    Raises EngineError where it is too long.
    """
    parts = (part for message in prompt.messages for part in message.parts)
    chars = sum(len(text) for part in parts for text in written_in(part))
    # A piece of text has a character at least. Looked at before anything is made of it.
    if chars > CONTEXT_TOKENS:
        raise EngineError(
            f"The conversation's text is too long: {chars} characters; at most {CONTEXT_TOKENS} "
            "are taken."
        )
    tokens = []
    for message in prompt.messages:
        tokens.append(_marker(message.role))
        for part in message.parts:
            match part:
                case TextPart() if part.token_ids:
                    tokens += map(_piece, part.token_ids)
                case TextPart() | FunctionCall() | FunctionOutput():
                    for text in written_in(part):
                        tokens += [_piece(piece.id) for piece in pieces(text)]
                case AudioPart():
                    frames = len(part.samples) * AUDIO_TOKENS_PER_S / SAMPLE_RATE_HZ
                    tokens.append(_Held(part.digest, TokenCount(audio=round(frames))))
                case _:
                    assert_never(part)
    return tokens


def _marker(role: str) -> _Held:
    return _Held(role, TokenCount(text=1))


def _piece(id: int) -> _Held:
    return _Held(id, TokenCount(text=1))


def _common(held: list[_Held], wanted: list[_Held]) -> int:
    """Length of the longest common prefix."""
    pairs = zip(held, wanted, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _total(tokens: list[_Held]) -> TokenCount:
    return TokenCount(
        text=sum(held.tokens.text for held in tokens),
        audio=sum(held.tokens.audio for held in tokens),
    )
