"""The server in a process of its own, as it is run."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@asynccontextmanager
async def server(config: str = "", *arguments: str) -> AsyncIterator[str]:
    """`assistant serve` with this YAML and these arguments; yields its address."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "assistant.cli", "serve"),
            *("--port", "0", "--config", str(file), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        try:
            match = re.search(r"http://(\S+:\d+)", line)
            if match is None:
                raise RuntimeError(f"the server did not start: {line!r}")
            yield match[1]
        finally:
            process.terminate()
            await process.wait()
