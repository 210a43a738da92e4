"""Audio-language models in process, through the transformers library."""

from __future__ import annotations

import asyncio
import itertools
import logging

from assistant.engines.engine import EngineInfo
from assistant.engines.transformers.connection import WorkerConnection
from assistant.engines.transformers.naming import model_name
from assistant.engines.transformers.session import TransformersSession
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError

logger = logging.getLogger(__name__)


class TransformersEngine:
    """An Engine whose model lives in one worker. A worker that is lost is started again."""

    def __init__(
        self,
        model: str,
        settings: TransformersSettings = TransformersSettings(),  # noqa: B008 (it is frozen)
    ) -> None:
        """`model`: a folder with a checkpoint, or the id of one on the Hugging Face hub.

        Raises EngineError for a folder that can't be read.
        """
        self._model = model
        self._settings = settings
        self.info = EngineInfo(model_name(model), context_tokens=0)
        """All but the name is known once it has started."""
        self._opening: asyncio.Task[WorkerConnection] | None = None
        self._session_ids = itertools.count(1)
        self._closed = False

    async def start(self) -> None:
        """Load the model, downloading it where it is neither a folder nor in the cache.

        Raises EngineError with what would help.
        """
        self.info = (await self._connection()).info

    async def open_session(self) -> TransformersSession:
        return TransformersSession(next(self._session_ids), self._connection)

    async def close(self) -> None:
        """End the worker, and with it every reply. Idempotent."""
        self._closed = True
        if opening := self._opening:
            opening.cancel()
            await asyncio.wait([opening])
            if _is_open(opening):
                await opening.result().close()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process; None where it is a thread, or none runs just now."""
        opening = self._opening
        return opening.result().pid if opening and _is_open(opening) else None

    async def _connection(self) -> WorkerConnection:
        """The worker that runs, or one that is started. Raises EngineError where none can be."""
        if self._closed:
            raise EngineError("The engine is closed.")
        opening = self._opening
        if opening is None or (opening.done() and not _is_open(opening)):
            opening = self._open()
        # Whoever stops waiting for it doesn't stop it for the others.
        await asyncio.wait([opening])
        if opening.cancelled():
            raise EngineError("The engine is closed.")
        return opening.result()

    def _open(self) -> asyncio.Task[WorkerConnection]:
        self._opening = asyncio.create_task(
            WorkerConnection.open(self._model, self._settings, on_lost=self._restart),
            name="start the model worker",
        )
        return self._opening

    def _restart(self, reason: str) -> None:
        # At once, so that the next reply waits less. Where it fails, the next reply tries again.
        logger.error("%s It is started again.", reason)
        self._open().add_done_callback(_log_failure)


def _is_open(opening: asyncio.Task[WorkerConnection]) -> bool:
    if not opening.done() or opening.cancelled() or opening.exception():
        return False
    return opening.result().lost is None


def _log_failure(opening: asyncio.Task[WorkerConnection]) -> None:
    if not opening.cancelled() and (error := opening.exception()):
        logger.error("The model's worker could not be started again: %s", error)
