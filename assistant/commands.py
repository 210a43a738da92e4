"""What the command `assistant` can do, and its options."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from assistant import selftest as selftests
from assistant.beginnings import (
    ApiKeyOption,
    ConfigOption,
    EngineOption,
    ModelOption,
    begin_log,
    given,
    load_settings,
    say_that_it_loads,
    while_it_loads,
)
from assistant.choice import make_engine
from assistant.connection import connect_in_process, connect_to_server
from assistant.endings import errors_told, signals_interrupt
from assistant.engines.transformers.catalogue import listing
from assistant.errors import ConfigError
from assistant.recordings import ask, evaluate, transcribe
from assistant.serve import run_server
from assistant.talk import talk as hold_conversation
from audio_io.microphone import list_devices

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assistant {version('streaming-voice-assistant')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """A real-time voice assistant: speech in, the reply streams back as text."""


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port to listen on.")] = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    api_key: ApiKeyOption = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with more keys, one on each line.")
    ] = None,
    open_to_all: Annotated[
        bool | None,
        typer.Option("--open-to-all", help="Let other machines in without a key."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Pages that may use it, such as https://example.org; may be repeated."),
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(help="Conversations at once; one more is refused.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate file (PEM), to serve https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key's file (PEM).")] = None,
    tls_self_signed: Annotated[
        bool | None,
        typer.Option("--tls-self-signed", help="Serve https with a certificate of its own."),
    ] = None,
) -> None:
    """Serve the page and the OpenAI Realtime API."""
    begin_log(logging.INFO)
    server = given(
        host=host,
        port=port,
        api_key=api_key,
        api_key_file=api_key_file,
        open_to_all=open_to_all,
        # Without the option, the list is empty.
        allowed_origins=allow_origin or None,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_self_signed=tls_self_signed,
    )
    with errors_told():
        limits = given(max_sessions=max_sessions)
        settings = load_settings(config, engine, model, server=server, limits=limits)
        chosen = make_engine(settings.model)
        say_that_it_loads(settings)
        run_server(settings, chosen)


@app.command()
def talk(
    context: typer.Context,
    config: ConfigOption = None,
    url: Annotated[
        str | None,
        typer.Option(help="Server to talk with, such as ws://127.0.0.1:8000; else in process."),
    ] = None,
    api_key: ApiKeyOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="Microphone: a number or a part of a name from `assistant devices`."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the first reply.")] = False,
) -> None:
    """Talk by this machine's microphone, and read the replies here. Ctrl-C ends."""
    begin_log(logging.WARNING)
    with errors_told(), suppress(KeyboardInterrupt), signals_interrupt():
        if url is not None:
            if own := given(config=config, engine=engine, model=model):
                options = " and ".join(f"--{name}" for name in own)
                raise ConfigError(f"The server at --url has its own settings: leave out {options}.")
            # The variable may hold all of a server's keys.
            key = api_key.partition(",")[0] if api_key else None
            connecting = connect_to_server(url, api_key=key)
            talking = hold_conversation(connecting, device=device, once=once, loads=False)
        else:
            source = context.get_parameter_source("api_key")
            if source is not None and source.name == "COMMANDLINE":
                raise ConfigError("--api-key is for a server: give its address too, by --url.")
            settings = load_settings(config, engine, model)
            loading = connect_in_process(make_engine(settings.model), settings)
            talking = while_it_loads(settings, hold_conversation(loading, device=device, once=once))
        asyncio.run(talking)


app.command()(ask)
app.command()(transcribe)


@app.command()
def models() -> None:
    """List the audio-language models that are served on this machine's own GPU."""
    with errors_told():
        for line in listing():
            typer.echo(line)


@app.command()
def devices() -> None:
    """List the microphones; an asterisk marks the default one."""
    with errors_told():
        for device in list_devices():
            mark = "*" if device.is_default else " "
            typer.echo(f"{mark} {device.index:>3}  {device.name}  {device.default_rate_hz} Hz")


@app.command()
def selftest(
    config: ConfigOption = None, engine: EngineOption = None, model: ModelOption = None
) -> None:
    """Load the model and have it answer a built-in spoken sentence; prints answers and speed."""
    begin_log(logging.WARNING)
    with errors_told(), signals_interrupt():
        settings = load_settings(config, engine, model)
        testing = selftests.selftest(make_engine(settings.model), partial(typer.echo, nl=False))
        asyncio.run(while_it_loads(settings, testing))


app.command("eval")(evaluate)
