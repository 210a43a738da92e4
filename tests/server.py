"""Test vocabulary: the server as it is run, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from assistant.config import Config
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine
from assistant.serve import listen, make_server
from assistant.tls import Certificate


@asynccontextmanager
async def serving(
    config: Config | None = None,
    engine: Engine | None = None,
    certificate: Certificate | None = None,
) -> AsyncIterator[str]:
    """A server on a free port of 127.0.0.1; yields `127.0.0.1:PORT`."""
    config = config or Config()
    engine = engine or EmbeddedEngine(config.model.embedded)
    listener = listen("127.0.0.1", 0)
    await engine.start()
    server = make_server(config, engine, certificate)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # Connections wait in the listener's backlog until the server takes them.
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        await engine.close()
        listener.close()
