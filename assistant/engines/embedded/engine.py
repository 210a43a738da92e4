"""The embedded engine: runs on any CPU, with nothing to download."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from assistant.engines.embedded.hearing import Ears, Recognizer
from assistant.engines.embedded.session import EmbeddedSession
from assistant.engines.embedded.settings import EmbeddedSettings
from assistant.engines.engine import EngineInfo

CONTEXT_TOKENS = 65_536
"""Of its own making: half an hour of audio, and what is said to it."""


def no_words() -> Recognizer | None:
    """The recogniser of a machine that has none."""
    return None


class EmbeddedEngine:
    """Answers without a model; see `answers.py` for what it can say."""

    def __init__(
        self,
        settings: EmbeddedSettings = EmbeddedSettings(),  # noqa: B008  frozen
        *,
        load_recognizer: Callable[[], Recognizer | None] = no_words,
        now: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.info = EngineInfo(
            model="embedded",
            context_tokens=CONTEXT_TOKENS,
            modes=frozenset({"voice_chat", "audio_analysis", "text"}),
        )
        self._settings = settings
        self._ears = Ears(load_recognizer)
        self._now = now
        self._sleep = sleep

    async def start(self) -> None:
        await self._ears.open()

    async def open_session(self) -> EmbeddedSession:
        return EmbeddedSession(self._ears, self._settings, self._now, self._sleep)

    async def close(self) -> None:
        self._ears.close()
