"""The embedded engine: runs on any CPU, with nothing to download."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from assistant.engines.embedded.hearing import Ears
from assistant.engines.embedded.session import CONTEXT_TOKENS, EmbeddedSession
from assistant.engines.embedded.settings import EmbeddedSettings
from assistant.engines.embedded.words import RecognizerProcess, Words, installed
from assistant.engines.engine import EngineInfo


class EmbeddedEngine:
    """Answers without a model; see `answers.py` for what it can say."""

    def __init__(
        self,
        settings: EmbeddedSettings | None = None,
        *,
        words: Words | None = None,
        now: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`words`: what recognises speech; the settings decide where it isn't given."""
        self.info = EngineInfo(
            model="embedded",
            context_tokens=CONTEXT_TOKENS,
            modes=frozenset({"voice_chat", "audio_analysis", "text"}),
        )
        self._settings = settings or EmbeddedSettings()
        if words is None and self._settings.words and installed():
            words = RecognizerProcess()
        self._ears = Ears(words)
        self._now = now
        self._sleep = sleep

    async def start(self) -> None:
        await self._ears.start()

    async def open_session(self) -> EmbeddedSession:
        return EmbeddedSession(self._ears, self._settings, self._now, self._sleep)

    async def close(self) -> None:
        await self._ears.close()
