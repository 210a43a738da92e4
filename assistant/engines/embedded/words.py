"""The recogniser's process, seen from the engine: words from speech, without blocking anyone."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import sys
from typing import Protocol

import orjson

from assistant.engines.embedded.jobs import Job, JobKind
from assistant.errors import EngineError
from audio_io.pcm import Int16Array

RECOGNIZER = "assistant.engines.embedded.recognizer"


class Words(Protocol):
    """Makes words out of speech (int16 (n,), 16 kHz mono). Cancel a call to abandon its work."""

    async def start(self) -> None:
        """Load. Raises EngineError."""

    async def request(self, samples: Int16Array) -> str | None:
        """The words of a request that `requests.understand` knows; None for anything else."""

    async def transcript(self, samples: Int16Array) -> str:
        """All words, roughly."""

    async def close(self) -> None: ...


def installed() -> bool:
    """Whether the extra `words` is there."""
    return importlib.util.find_spec("pocketsphinx") is not None


class RecognizerProcess:
    """`Words` by one process for all conversations; it does one job after the other.

    Should it die, what it was doing fails with EngineError, and the next job starts another.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str | None]] = {}

    async def start(self) -> None:
        async with self._starting:
            if self._reader and not self._reader.done():
                return
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", RECOGNIZER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                ready = await _stdout(process).readline()
            except asyncio.CancelledError:
                process.kill()
                raise
            if not ready:
                raise EngineError(
                    f"The speech recogniser didn't start ({await _ending(process)}). "
                    "Reinstall pocketsphinx, or set model.embedded.words to false."
                )
            self._process = process
            self._reader = asyncio.create_task(self._read(process), name="recogniser")

    async def request(self, samples: Int16Array) -> str | None:
        return await self._do(JobKind.REQUEST, samples)

    async def transcript(self, samples: Int16Array) -> str:
        return await self._do(JobKind.TRANSCRIPT, samples) or ""

    async def close(self) -> None:
        if self._process and self._reader:
            # The end of its jobs ends it, whatever it is doing.
            _stdin(self._process).close()
            await self._reader
            await self._process.wait()

    async def _do(self, kind: JobKind, samples: Int16Array) -> str | None:
        await self.start()
        assert self._process
        jobs = _stdin(self._process)
        id_ = next(self._ids)
        result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = result
        jobs.write(Job(kind, id_, samples).to_bytes())
        try:
            return await result
        finally:
            if self._waiting.pop(id_, None) and not jobs.is_closing():
                jobs.write(Job(JobKind.ABANDON, id_, samples[:0]).to_bytes())

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        while line := await _stdout(process).readline():
            result = orjson.loads(line)
            waiting = self._waiting.pop(result["id"], None)
            if waiting and not waiting.done():  # done: cancelled this very moment
                if "error" in result:
                    waiting.set_exception(EngineError(f"Speech recognition: {result['error']}"))
                else:
                    waiting.set_result(result["words"])
        error = EngineError(f"The speech recogniser stopped ({await _ending(process)}).")
        waiting_for, self._waiting = self._waiting, {}
        for waiting in waiting_for.values():
            if not waiting.done():
                waiting.set_exception(error)


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin
    return process.stdin


def _stdout(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stdout
    return process.stdout


async def _ending(process: asyncio.subprocess.Process) -> str:
    return f"exit status {await process.wait()}"
