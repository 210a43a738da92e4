"""What a worker runs in: a thread, or a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Protocol

from assistant.engines.transformers.worker import work

# How long a process may take to end once its socket is closed: a decode step takes milliseconds,
# but the prefill of a long prompt seconds.
GOODBYE_S = 5.0


class Host(Protocol):
    """What a worker runs in."""

    @property
    def pid(self) -> int | None:
        """The process, where it is one of its own."""

    def kill(self) -> None:
        """End it at once, if it can be; a thread is left to itself."""

    async def ended(self) -> str:
        """Wait until it has, or is left to itself.

        Returns how it did, as a verb with what belongs to it.
        """


class ThreadHost:
    """A thread of this process."""

    pid: int | None = None

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self._given_up = False

    def kill(self) -> None:
        # Nothing ends a thread from outside. This one ends by itself, when it has loaded its model
        # and finds nobody there; that may take minutes, for which nobody is to wait.
        self._given_up = True

    async def ended(self) -> str:
        if not self._given_up:
            await asyncio.to_thread(self._thread.join)
        return "ended"


class ProcessHost:
    """A process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid: int | None = process.pid

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> str:
        code = await self._exit_code()
        if code is None:
            self.kill()
            code = await self._exit_code()
        match code:
            case None:
                # It waits for a device that doesn't answer, where no signal reaches it.
                return "can't be ended"
            case _ if code >= 0:
                return f"ended with status {code}"
            case _:
                return f"was ended by {signal.Signals(-code).name}"

    async def _exit_code(self) -> int | None:
        """None where it doesn't end for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                return await self._process.wait()
        return None


async def in_thread(sock: socket.socket) -> Host:
    """A worker at the other end of `sock`, which the caller may close."""
    thread = threading.Thread(target=work, args=(sock.dup(),), name="model worker", daemon=True)
    thread.start()
    return ThreadHost(thread)


async def in_process(sock: socket.socket) -> Host:
    """A worker at the other end of `sock`, which the caller may close."""
    # The modules that we have ourselves: `-m` alone would look in the current folder first.
    path = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "assistant.engines.transformers",
        str(sock.fileno()),
        pass_fds=(sock.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
        # Ctrl-C in the terminal is for the server, which ends its worker itself.
        start_new_session=True,
    )
    return ProcessHost(process)
