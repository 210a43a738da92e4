"""The command `assistant`."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn

from assistant.config import Config
from assistant.engines.embedded import EmbeddedEngine
from assistant.engines.engine import Engine
from assistant.errors import AssistantError, ConfigError
from assistant.server import create_app

# The message limit is ours to explain; uvicorn closes the connection only well beyond it.
MESSAGE_SLACK_BYTES = 2**20
# How long open connections may take to say goodbye once the server is told to end.
GOODBYE_S = 1

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """A real-time voice assistant: speech in, the reply streams back as text."""


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings; see config.yaml.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port to listen on.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto or embedded.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="ASSISTANT_API_KEY", show_envvar=True, help="Key that clients must present."
        ),
    ] = None,
) -> None:
    """Serve the page and the OpenAI Realtime API."""
    overrides = {
        "server": _given(host=host, port=port, api_key=api_key),
        "model": _given(engine=engine),
    }
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("assistant").setLevel(logging.INFO)
    try:
        settings = Config.load(config, overrides)
        run_server(settings, make_engine(settings))
    except AssistantError as error:
        typer.echo(f"assistant: {error}", err=True)
        raise typer.Exit(1) from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def make_engine(config: Config) -> Engine:
    """The engine that the configuration names."""
    return EmbeddedEngine(config.model.embedded)


def run_server(config: Config, engine: Engine) -> None:
    """Serve until told to end by Ctrl-C or SIGTERM. Raises ConfigError, EngineError."""
    listener = listen(config.server.host, config.server.port)
    # uvicorn shuts down in order on Ctrl-C, and passes the signal on.
    with listener, suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, engine, listener))


async def _serve(config: Config, engine: Engine, listener: socket.socket) -> None:
    server = make_server(config, engine)
    host, port = listener.getsockname()[:2]
    await engine.start()
    try:
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        typer.echo(f"Listening on {address} - open it in a browser and talk. Ctrl-C ends.")
        await server.serve(sockets=[listener])
    finally:
        await engine.close()


def make_server(config: Config, engine: Engine) -> uvicorn.Server:
    """The server as it is run, for an engine that has started."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(config, engine),
            ws="websockets-sansio",
            ws_max_size=config.limits.max_message_bytes + MESSAGE_SLACK_BYTES,
            # Base64 of sound hardly compresses, and deflate costs more than all the rest.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=GOODBYE_S,
            log_level="warning",
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections arrive at. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"can't listen on {host}, port {port}: {reason}. Is another program using it? "
            "Choose another with --port."
        ) from error
    # Inherited by connections; asyncio doesn't set it where a listener names no protocol, and then
    # the first token waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
