"""The event loop's end of a worker: launched, loaded, asked, and told apart from its death."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Self, assert_never

from assistant.engines.engine import ReplyEvent, TokenCount
from assistant.engines.transformers.channel import packed, receive
from assistant.engines.transformers.host import Host, in_process, in_thread
from assistant.engines.transformers.messages import (
    Answer,
    Cancel,
    Commit,
    Ended,
    Forget,
    Load,
    Loaded,
    Ping,
    Pong,
    Refused,
    Request,
    ToWorker,
)
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.watchdog import Watchdog
from assistant.errors import EngineError, GaveWayError, PromptTooLongError


class Call:
    """A request under way."""

    def __init__(self, request: Request, post: Callable[[ToWorker], None]) -> None:
        self.session_id = request.session_id
        self._id = request.request_id
        self._post = post
        self._answers: asyncio.Queue[Answer | Ended] = asyncio.Queue()
        self._over = asyncio.Event()

    def put(self, message: Answer | Ended) -> None:
        """What the worker says to it."""
        self._answers.put_nowait(message)
        if isinstance(message, Ended):
            self._over.set()

    async def next(self) -> ReplyEvent | TokenCount | None:
        """The next part of the answer; None where there is no more. Raises EngineError."""
        match message := await self._answers.get():
            case Answer():
                return message.content
            case Ended():
                # Whoever asks once more gets the same.
                self._answers.put_nowait(message)
                if message.error is not None:
                    raise _failure(message.error, message)
                return None
            case _:
                assert_never(message)

    def commit(self) -> None:
        """The turn that is being answered has ended."""
        if not self._over.is_set():
            self._post(Commit(self._id))

    async def cancel(self) -> None:
        """Return when the worker no longer works on it."""
        if not self._over.is_set():
            self._post(Cancel(self._id))
            await self._over.wait()


def _failure(reason: str, ended: Ended) -> EngineError:
    if ended.too_long:
        taken = ended.too_long
        return PromptTooLongError(reason, text_tokens=taken.text, audio_tokens=taken.audio)
    return GaveWayError(reason) if ended.gave_way else EngineError(reason)


class WorkerConnection:
    """A worker with its model loaded. Make it with `open`, and end it with `close`."""

    def __init__(
        self,
        host: Host,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        loaded: Loaded,
        step_timeout_s: float | None,
        on_lost: Callable[[str], None],
    ) -> None:
        self.info = loaded.info
        self.calls = loaded.calls
        """How the model writes calls of functions; None: it knows of none."""
        self.lost: str | None = None
        """Why the worker is no more, once it is."""
        self._host = host
        self._reader = reader
        self._writer = writer
        self._on_lost = on_lost
        self._calls: dict[int, Call] = {}
        self._request_ids = itertools.count(1)
        self._fate: str | None = None
        """What became of the worker, where the way it ended doesn't tell."""
        self._step_timeout_s = step_timeout_s
        self._watchdog = Watchdog(
            step_timeout_s,
            busy=lambda: bool(self._calls),
            ask=lambda: self.post(Ping()),
            hung=self._kill,
        )
        self._reading = asyncio.create_task(self._read(), name="model worker")

    @classmethod
    async def open(
        cls, model: str, settings: TransformersSettings, on_lost: Callable[[str], None]
    ) -> Self:
        """Launch a worker and have it load `model`. Raises EngineError.

        `on_lost` is called with the reason if it ends later, unasked.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                host = await (in_thread if settings.worker == "thread" else in_process)(theirs)
            except BaseException:
                writer.transport.abort()
                raise
        loaded = await _loaded(reader, writer, host, Load(model, settings))
        step_timeout_s = settings.longest_step_s(on_gpu=loaded.on_gpu)
        return cls(host, reader, writer, loaded, step_timeout_s, on_lost)

    def call(self, request: Callable[[int], Request]) -> Call:
        """Send the request that is made for an id. Raises EngineError where the worker is gone."""
        asked = request(next(self._request_ids))
        self.post(asked)
        call = self._calls[asked.request_id] = Call(asked, self.post)
        self._watchdog.watch()
        return call

    def forget(self, session_id: int) -> None:
        """End a conversation and its calls, without waiting for the worker, which may be busy."""
        self.post(Forget(session_id))
        for request_id, call in list(self._calls.items()):
            if call.session_id == session_id:
                del self._calls[request_id]
                call.put(Ended(request_id))

    def post(self, message: ToWorker) -> None:
        """Send at once. Raises EngineError where the worker is gone."""
        if self.lost is not None:
            raise EngineError(self.lost)
        self._writer.write(packed(message))

    async def send(self, message: ToWorker) -> None:
        """Send, and wait until the worker keeps up. Raises EngineError where it is gone."""
        self.post(message)
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise EngineError(f"The model's worker is gone: {error}") from error

    @property
    def pid(self) -> int | None:
        """The process that the worker is; None where it is a thread."""
        return self._host.pid

    async def close(self) -> None:
        """End the worker, and with it all calls. Idempotent."""
        self._on_lost = _nothing
        self._writer.transport.abort()
        await self._reading

    def _kill(self) -> None:
        self._fate = f"took no step for {self._step_timeout_s:g} s and was given up"
        self._host.kill()
        # A thread can't be killed: it ends when it finds nobody here.
        self._writer.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                message = await receive(self._reader)
                self._watchdog.heard()
                if isinstance(message, Pong):
                    continue
                if isinstance(message, Refused):
                    self._fate = f"has given up: {message.reason}"
                    continue
                assert isinstance(message, Answer | Ended)
                call = self._calls.get(message.request_id)
                if isinstance(message, Ended):
                    self._calls.pop(message.request_id, None)
                # None where its conversation has ended meanwhile.
                if call:
                    call.put(message)
        except (EOFError, ConnectionError):
            self._writer.transport.abort()
        self._watchdog.stop()
        how = await self._host.ended()
        self.lost = f"The model's worker {self._fate or how}."
        for request_id, call in self._calls.items():
            call.put(Ended(request_id, self.lost))
        self._calls.clear()
        self._on_lost(self.lost)


def _nothing(reason: str) -> None: ...


async def _loaded(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host, load: Load
) -> Loaded:
    """Have a new worker load; where that fails, it has ended."""
    try:
        writer.write(packed(load))
        match await receive(reader):
            case Loaded() as loaded:
                return loaded
            case Refused(reason):
                raise EngineError(reason)
            case message:
                raise AssertionError(f"{message} before anything was loaded")
    except (EOFError, ConnectionError) as error:
        writer.transport.abort()
        how = await host.ended()
        raise EngineError(f"The model's worker {how} while it loaded {load.model}.") from error
    except BaseException:
        writer.transport.abort()
        host.kill()
        await host.ended()
        raise
