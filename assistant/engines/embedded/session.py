"""A conversation's session of the embedded engine.

It keeps what a model would keep: the tokens that it has taken in and said. A prompt is compared
with them; the longest common prefix counts as reused, the rest as dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from assistant.engines.embedded.answers import answer, audios_in, pieces, user_turns
from assistant.engines.embedded.hearing import Ears
from assistant.engines.embedded.settings import EmbeddedSettings
from assistant.engines.engine import (
    Finished,
    PrefillReport,
    ReplyOptions,
    Started,
    Text,
    Timings,
    TokenCount,
    Usage,
)
from assistant.engines.operations import Operations, QueuedReply
from assistant.errors import EngineError
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Prompt, TextPart, written_in
from audio_io.pcm import SAMPLE_RATE_HZ

AUDIO_TOKENS_PER_S = 25
"""Qwen2-Audio's."""
CONTEXT_TOKENS = 262_144
"""Of its own making: hours of audio, and more text than a conversation may hold."""


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
        self._operations = Operations("embedded engine")

    async def count(self, prompt: Prompt) -> TokenCount:
        return _total(_tokens(prompt))

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        return await (await self._operations.begin(lambda: self._take_in(prompt)))

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> QueuedReply:
        return QueuedReply(
            self._operations,
            lambda reply: self._answer(reply, prompt, options, keep=not side),
            committed=not options.speculative,
            side=side,
        )

    async def close(self) -> None:
        await self._operations.close()

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
        self, reply: QueuedReply, prompt: Prompt, options: ReplyOptions, *, keep: bool
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
