"""Models behind servers that speak OpenAI's chat completions, streamed."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace

import openai

from assistant.engines.engine import EngineInfo
from assistant.engines.openai_compatible.asking import ChatAsker
from assistant.engines.openai_compatible.listing import ListedModel, listed
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.remote.failures import brief, sentence
from assistant.engines.remote.servers import Seat, Server, host_of
from assistant.engines.remote.session import RemoteSession
from assistant.errors import EngineError

ASSUMED_CONTEXT_TOKENS = 32_768
"""Of Qwen2.5-Omni and Qwen3-Omni; where it is less, the server says so once it is full."""

logger = logging.getLogger(__name__)


class OpenAICompatibleEngine:
    """An Engine that computes nothing itself. Any of its servers will do."""

    def __init__(self, model: str | None, settings: OpenAICompatibleSettings) -> None:
        """`model`: as the servers call it; None: the only one that they have."""
        self._settings = settings
        key = os.environ.get(settings.api_key_env)
        # The package refuses to start without a key, also where none is wanted.
        self._servers = [
            Server(
                host_of(url),
                openai.AsyncOpenAI(
                    base_url=url,
                    api_key=key or "none",
                    max_retries=0,
                    # What comes after the connection is timed where it is read.
                    timeout=openai.Timeout(None, connect=settings.connect_timeout_s),
                ),
            )
            for url in settings.base_urls
        ]
        self.info = EngineInfo(
            model or "",
            settings.context_tokens or ASSUMED_CONTEXT_TOKENS,
            device=", ".join(server.name for server in self._servers),
            tools=settings.tools,
            modes=frozenset({"voice_chat", "audio_analysis", "text"}),
        )

    async def start(self) -> None:
        """Ask every server for its models. Raises EngineError where none answers, or none fits."""
        answers = await asyncio.gather(*map(self._models, self._servers))
        failures = [answer for answer in answers if isinstance(answer, EngineError)]
        if len(failures) == len(answers):
            raise failures[0]
        for failure in failures:
            logger.warning("%s", failure)
        self._settle([model for answer in answers if isinstance(answer, list) for model in answer])

    async def open_session(self) -> RemoteSession[openai.AsyncOpenAI]:
        context_tokens = self.info.context_tokens
        asker = ChatAsker(self.info.model, self._settings, context_tokens=context_tokens)
        return RemoteSession(Seat(self._servers), asker, self._settings)

    async def close(self) -> None:
        for server in self._servers:
            await server.client.close()

    async def _models(self, server: Server[openai.AsyncOpenAI]) -> list[ListedModel] | EngineError:
        """What a server has; empty where it answers, but keeps that to itself."""
        try:
            async with asyncio.timeout(self._settings.first_token_timeout_s):
                return listed(await server.client.get("/models", cast_to=object))
        except TimeoutError:
            return EngineError(f"{server.name} doesn't answer.")
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            return EngineError(
                f"{server.name} refuses the API key: {sentence(brief(error.message))} Give it as "
                f"the environment variable {self._settings.api_key_env}."
            )
        except openai.APIStatusError as error:
            logger.warning("%s doesn't list its models: %s", server.name, error.message)
            return []
        except (openai.OpenAIError, ValueError) as error:
            cause = sentence(brief(str(error.__cause__ or error)))
            return EngineError(
                f"{server.name} can't be asked for its models: {cause} Is it running, and is "
                f"{server.client.base_url.path} the path of its API?"
            )

    def _settle(self, models: list[ListedModel]) -> None:
        """Take over what the servers tell. Raises EngineError where a model must be named."""
        names = sorted({model.id for model in models})
        name = self.info.model or (names[0] if len(names) == 1 else "")
        if not name:
            choice = f": {', '.join(names)}" if names else ""
            raise EngineError(f"Name the model that is to answer, by --model{choice}.")
        if names and name not in names:
            logger.warning("The servers list no model %s, but %s.", name, ", ".join(names))
        contexts = [
            model.context_tokens for model in models if model.id == name and model.context_tokens
        ]
        self.info = replace(
            self.info,
            model=name,
            context_tokens=self._settings.context_tokens
            or min(contexts, default=ASSUMED_CONTEXT_TOKENS),
        )
