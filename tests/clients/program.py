"""Test vocabulary: one of the examples, run as a program: it is told a line, and prints JSON."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MAX_LINE_BYTES = 2**20
TIMEOUT_S = 60
"""Of which most goes into loading the largest of the packages, on a busy machine."""


class Program:
    """A client in conversation. It has printed whatever `reads` returns."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self.printed: list[dict[str, Any]] = []

    def told(self, line: str | Path) -> None:
        """Type a line, or say the wav file of that name."""
        self._input.write(f"{line}\n".encode())

    async def reads(self, key: str) -> Any:
        """Read on to the next line with that key: its value."""
        while key not in (line := await self._line()):
            pass
        return line[key]

    async def ended(self) -> None:
        """Close its input, and read on to the end; it must come by itself and in order."""
        self._input.close()
        while not self._output.at_eof():
            if line := await self._output.readline():
                self.printed.append(json.loads(line))
        assert await self._process.wait() == 0

    async def _line(self) -> dict[str, Any]:
        line = await self._output.readline()
        assert line, f"The program has ended; it had printed {self.printed}"
        self.printed.append(json.loads(line))
        return self.printed[-1]


def installed(path: str | Path) -> Path:
    """What `make clients` puts there, below `examples`; the test is skipped where it is missing."""
    if not (EXAMPLES / path).exists():
        pytest.skip(f"examples/{path} is missing; it comes with `make clients`")
    return EXAMPLES / path


@asynccontextmanager
async def program(*command: str | Path, env: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run a client, whose own messages go to the test's; skipped where it isn't installed."""
    process = await asyncio.create_subprocess_exec(
        installed(command[0]),
        *command[1:],
        stdin=PIPE,
        stdout=PIPE,
        cwd=EXAMPLES,
        env=os.environ | env,
        limit=MAX_LINE_BYTES,
    )
    running = Program(process)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield running
    except BaseException as error:
        error.add_note(f"The program had printed {running.printed}")
        raise
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
