"""Qwen-Audio by DashScope's own API, through the `dashscope` package."""

from __future__ import annotations

import os

import aiohttp

from assistant.engines.dashscope.asking import GenerationAsker
from assistant.engines.dashscope.models import DEFAULT_MODEL, limits_of
from assistant.engines.dashscope.refusals import RefusalResponse
from assistant.engines.dashscope.settings import DashScopeSettings
from assistant.engines.dashscope.wire import MAX_AUDIO_S
from assistant.engines.engine import EngineInfo
from assistant.engines.remote.servers import Seat, Server, host_of
from assistant.engines.remote.session import RemoteSession
from assistant.errors import EngineError


class DashScopeEngine:
    """An Engine that computes nothing itself."""

    def __init__(self, model: str | None, settings: DashScopeSettings) -> None:
        self._settings = settings
        self._key = ""
        self._servers: list[Server[aiohttp.ClientSession]] = []
        model = model or DEFAULT_MODEL
        self._limits = limits_of(model)
        self.info = EngineInfo(
            model,
            # A reply has room of its own.
            context_tokens=self._limits.max_input_tokens,
            device=host_of(settings.base_url),
            max_audio_s=MAX_AUDIO_S,
            modes=frozenset({"voice_chat", "audio_analysis", "text"})
            if self._limits.voice_chat
            else frozenset({"audio_analysis", "text"}),
        )

    async def start(self) -> None:
        """Check that there is a key; whether it is good, the first reply tells, as that costs.

        Raises EngineError where there is none.
        """
        self._key = os.environ.get(self._settings.api_key_env, "")
        if not self._key:
            raise EngineError(
                "DashScope needs an API key: give it as the environment variable "
                f"{self._settings.api_key_env}."
            )
        client = aiohttp.ClientSession(response_class=RefusalResponse)
        self._servers = [Server(host_of(self._settings.base_url), client)]

    async def open_session(self) -> RemoteSession[aiohttp.ClientSession]:
        asker = GenerationAsker(self.info.model, self._limits, self._key, self._settings)
        return RemoteSession(Seat(self._servers), asker, self._settings)

    async def close(self) -> None:
        for server in self._servers:
            await server.client.close()
