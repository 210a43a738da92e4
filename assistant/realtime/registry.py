"""The sessions of one server: opened within the limit, found by id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from assistant import metrics
from assistant.config import Config
from assistant.engines.engine import Engine
from assistant.errors import RefusedError
from assistant.realtime.live import LiveSession, live_session, now_ms
from assistant.realtime.prompting import longest_text
from assistant.realtime.session import RealtimeSession, SessionLimits, random_id
from assistant.realtime.settings import (
    AudioSettings,
    InputAudioSettings,
    ServerVad,
    SessionSettings,
)
from audio_io.segmenter import SpeechSegmenter
from audio_io.vad import make_detector

logger = logging.getLogger(__name__)

LEAVING = "The server is being shut down. Connect again to reach another."


class SessionRegistry:
    """Opens sessions over one engine, and knows those that are open."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine = engine
        self._config = config
        self._sessions: dict[str, LiveSession] = {}
        self._taken = 0
        self._leaving = False
        self._all_left = asyncio.Event()

    @property
    def leaving(self) -> bool:
        """Whether there will be no more sessions."""
        return self._leaving

    async def leave(self) -> None:
        """Open no more sessions; returns when those that there are have come to their end.

        Each ends as soon as nobody speaks in it and no reply or transcript is still to come.
        """
        self._leaving = True
        self._note_whether_all_left()
        for live in [*self._sessions.values()]:
            await live.leave(LEAVING)
        await self._all_left.wait()

    def _note_whether_all_left(self) -> None:
        if self._leaving and not self._taken:
            self._all_left.set()

    def get(self, session_id: str) -> LiveSession | None:
        """The open session with that id."""
        return self._sessions.get(session_id)

    @asynccontextmanager
    async def open(
        self, *wishes: dict[str, Any], session_id: str | None = None
    ) -> AsyncIterator[LiveSession]:
        """A new session for as long as the context is open.

        `wishes`: what is to be other than by default, as in `session.update`, the last going
        before the others; `session_id`: where the client knows the session by an id already, one
        not to be guessed.
        Raises RefusedError at the limit, ProtocolError where a wish is wrong, EngineError
        where the model can't take another conversation.
        """
        limits = self._config.limits
        session = RealtimeSession(
            model=self._engine.info.model,
            context_tokens=self._engine.info.context_tokens,
            takes_tools=self._engine.info.tools,
            settings=self._settings(*wishes),
            defaults=default_settings(self._config),
            id=session_id,
            limits=SessionLimits(
                max_messages=limits.max_messages,
                max_audio_s=limits.max_audio_s,
                max_text_chars=limits.max_text_chars,
                max_session_s=limits.max_session_s,
            ),
            speculate=self._config.turns.speculate,
            detection=self._config.turns.detection(),
            now_ms=now_ms,
        )
        with self._place():
            segmenter = SpeechSegmenter(
                make_detector(self._config.turns.vad),
                session.hearing,
                max_turn_s=limits.max_turn_s,
            )
            model = await self._engine.open_session()
            async with live_session(
                session, model, segmenter, max_message_bytes=limits.max_message_bytes
            ) as live:
                with self._listed(live):
                    if self._leaving:
                        # It was being opened when all others were told.
                        await live.leave(LEAVING)
                    yield live

    def preview(self, *wishes: dict[str, Any]) -> dict[str, Any]:
        """How a session would begin, as clients see it. Raises as `open`, where a wish is wrong."""
        return {
            "object": "realtime.session",
            "id": random_id("sess"),
            "model": self._engine.info.model,
            **self._settings(*wishes).model_dump(),
        }

    def _settings(self, *wishes: dict[str, Any]) -> SessionSettings:
        settings = defaults = default_settings(self._config)
        for wish in wishes:
            settings = settings.updated(wish, defaults)
            settings.check_texts(
                longest_text(
                    context_tokens=self._engine.info.context_tokens,
                    max_text_chars=self._config.limits.max_text_chars,
                )
            )
        return settings

    @contextmanager
    def _listed(self, live: LiveSession) -> Iterator[None]:
        self._sessions[live.id] = live
        logger.info("%s: opened", live.id)
        try:
            yield
        finally:
            del self._sessions[live.id]
            logger.info("%s: closed", live.id)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for sessions, counted from before the first wait."""
        if self._leaving:
            metrics.REFUSED.inc()
            raise RefusedError(LEAVING)
        if self._taken >= self._config.limits.max_sessions:
            metrics.REFUSED.inc()
            raise RefusedError(f"All {self._taken} sessions are taken; try again in a while.")
        self._taken += 1
        metrics.SESSIONS.inc()
        try:
            yield
        finally:
            self._taken -= 1
            metrics.SESSIONS.dec()
            self._note_whether_all_left()


def default_settings(config: Config) -> SessionSettings:
    """What a session starts with."""
    turns = config.turns
    vad = ServerVad(
        threshold=turns.threshold,
        prefix_padding_ms=turns.prefix_padding_ms,
        silence_duration_ms=turns.silence_duration_ms,
    )
    return SessionSettings(
        instructions=config.model.instructions,
        audio=AudioSettings(input=InputAudioSettings(turn_detection=vad)),
    )
