"""The desktop assistant: microphone in, conversation on the terminal."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import numpy as np

from assistant.connection import Connection
from assistant.errors import EngineError, ServerError
from assistant.tasks import race
from assistant.terminal import Show, open_terminal
from assistant.view import Event, Reply, View, noted, reduce
from audio_io.microphone import Microphone, find_device, open_microphone
from audio_io.pcm import Int16Array, level_dbfs

LEVEL_MS = 80
"""Sound that one value of the level meter stands for."""


async def talk(
    connecting: AbstractAsyncContextManager[Connection],
    *,
    device: str | None = None,
    once: bool = False,
    loads: bool = True,
) -> None:
    """Hold a conversation until the session ends; with `once`, until the first reply has.

    `device`: the microphone's number or a part of its name; None for the default one. Should it go
    later, it is waited for. `loads`: `connecting` may load a model for minutes, so the microphone
    is looked for first. A reply that the person interrupts is no end, as it is not what they wanted
    to know.

    Raises DeviceError, ServerError, what `connecting` raises, and with `once` what keeps the reply
    from coming.
    """
    found = find_device(device) if loads else None
    async with connecting as connection:
        with open_microphone(found or find_device(device)) as microphone, open_terminal() as show:
            await converse(connection, microphone, show, once=once)


async def converse(
    connection: Connection, microphone: Microphone, show: Show, *, once: bool = False
) -> None:
    """Let `connection` hear `microphone`, and `show` what comes of it; ends as `talk` does."""
    screen = _Screen(show, once=once)
    await race(
        microphone=_speak(microphone, connection, screen),
        conversation=connection.receive(screen.take),
        once=screen.answered(),
    )
    if once:
        _check(screen.answer)


class _Screen:
    """The view as it stands, shown whenever it changes."""

    def __init__(self, show: Show, *, once: bool) -> None:
        self._show = show
        self._once = once
        self._view = View()
        self._answered = asyncio.Event()
        self._notice: str | None = None

    def take(self, event: Event) -> None:
        """A server event."""
        self._change(reduce(self._view, event))

    def heard(self, samples: Int16Array, microphone: Microphone) -> None:
        """What the microphone gave of late."""
        view = replace(self._view, level_dbfs=level_dbfs(samples), lost_ms=microphone.lost_ms)
        if microphone.notice is not None and microphone.notice != self._notice:
            view = noted(view, microphone.notice)
        self._notice = microphone.notice
        self._change(view)

    @property
    def answer(self) -> Reply | None:
        """The one reply that is wanted, where it has come to its end."""
        return self._view.answer

    async def answered(self) -> None:
        """Wait for the end of the one reply that is wanted; without `once`, for ever."""
        await self._answered.wait()

    def _change(self, view: View) -> None:
        if view is self._view:
            return
        self._view = view
        self._show(view)
        if self._once and view.answer:
            self._answered.set()


def _check(answer: Reply | None) -> None:
    """Raises EngineError where the reply failed, ServerError where there is none."""
    if answer is None:
        raise ServerError("The session ended before there was a reply.")
    if answer.status in ("failed", "stopped"):
        raise EngineError(answer.detail or f"The reply {answer.status}.")


async def _speak(microphone: Microphone, connection: Connection, screen: _Screen) -> None:
    recent: list[Int16Array] = []
    async for samples, sample_rate_hz in microphone.audio():
        recent.append(samples)
        if sum(map(len, recent)) >= sample_rate_hz * LEVEL_MS // 1000:
            screen.heard(np.concatenate(recent), microphone)
            recent.clear()
        await connection.hear(samples, sample_rate_hz)
