"""What the command `assistant` can do, and its options."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from assistant import selftest as selftests
from assistant.ask import Answer
from assistant.ask import ask as ask_about
from assistant.choice import make_engine
from assistant.config import Config
from assistant.connection import connect_in_process, connect_to_server
from assistant.endings import errors_told, signals_interrupt
from assistant.engines.transformers.catalogue import listing
from assistant.errors import ConfigError
from assistant.lines import typed_lines
from assistant.serve import run_server
from assistant.talk import talk as hold_conversation
from assistant.transcribe import transcribe as write_down
from audio_io.microphone import list_devices
from audio_io.sources import STDIN, looks_like_source

_T = TypeVar("_T")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ConfigOption = Annotated[
    Path | None, typer.Option(help="YAML file with settings; see config.yaml.")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        help="auto, embedded, transformers, openai_compatible or dashscope; auto: servers where "
        "some are configured, else transformers for a named model."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Audio-language model: its hub id, such as Qwen/Qwen2-Audio-7B-Instruct, or the "
        "folder of a checkpoint."
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        envvar="ASSISTANT_API_KEY",
        show_envvar=True,
        help="Key that clients must present; several are separated by commas.",
    ),
]


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
    _log(logging.INFO)
    server = _given(
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
        limits = _given(max_sessions=max_sessions)
        settings = _load(config, engine, model, server=server, limits=limits)
        chosen = make_engine(settings.model)
        _say_that_it_loads(settings)
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
    _log(logging.WARNING)
    with errors_told(), suppress(KeyboardInterrupt), signals_interrupt():
        if url is not None:
            if own := _given(config=config, engine=engine, model=model):
                options = " and ".join(f"--{name}" for name in own)
                raise ConfigError(f"The server at --url has its own settings: leave out {options}.")
            # The variable may hold all of a server's keys.
            key = api_key.partition(",")[0] if api_key else None
            talking = hold_conversation(
                connect_to_server(url, api_key=key), device=device, once=once
            )
        else:
            source = context.get_parameter_source("api_key")
            if source is not None and source.name == "COMMANDLINE":
                raise ConfigError("--api-key is for a server: give its address too, by --url.")
            settings = _load(config, engine, model)
            connecting = connect_in_process(make_engine(settings.model), settings)
            talking = _loading(settings, hold_conversation(connecting, device=device, once=once))
        asyncio.run(talking)


@app.command()
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [QUESTION]",
            help="Recordings: paths, file://, http(s)://, data:;base64, or - for the standard "
            "input; then what to ask about them, else they are answered themselves.",
        ),
    ],
    config: ConfigOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print text, usage and timings, as one line of JSON.")
    ] = False,
    follow_up: Annotated[
        bool, typer.Option("--follow-up", help="Ask on, line by line, until the input ends.")
    ] = False,
) -> None:
    """Answer recordings, or a question about them."""
    _log(logging.WARNING)
    with errors_told(), signals_interrupt():
        sources, question = _sources_and_question(words)
        if follow_up and STDIN in sources:
            raise ConfigError("The standard input can't be both a recording and what to ask on.")
        settings = _load(config, engine, model)
        answers = ask_about(
            make_engine(settings.model),
            sources,
            question,
            instructions=settings.model.instructions,
            limits=settings.files.limits(),
            write=_ignore if as_json else _write,
            follow_ups=typed_lines(sys.stdin.fileno(), _invite) if follow_up else None,
        )
        asyncio.run(_loading(settings, _show_answers(answers, as_json=as_json)))


async def _show_answers(answers: AsyncGenerator[Answer], *, as_json: bool) -> None:
    async with aclosing(answers):
        async for answer in answers:
            typer.echo(json.dumps(answer.as_json(), ensure_ascii=False) if as_json else "")
            if answer.finished.reason == "length" and not as_json:
                typer.echo("The answer was cut off at the length limit.", err=True)


def _sources_and_question(words: list[str]) -> tuple[list[str], str | None]:
    """The last word is the question, unless it names a recording. Raises ConfigError."""
    if len(words) == 1 or looks_like_source(words[-1]):
        return words, None
    *sources, question = words
    _check_question(question)
    return sources, question


def _invite() -> None:
    if sys.stdin.isatty():
        typer.echo("> ", nl=False, err=True)


def _ignore(text: str) -> None:
    """The whole of it comes at the end."""


@app.command()
def transcribe(
    source: Annotated[
        str,
        typer.Argument(help="Recording: a path, file://, http(s)://, data:;base64, or -."),
    ],
    language: Annotated[
        str, typer.Option(help="Of what is said: two letters, such as en; else it is found out.")
    ] = "",
    config: ConfigOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
) -> None:
    """Write down what is said, by a model that was trained for it, such as Voxtral."""
    _log(logging.WARNING)
    with errors_told(), signals_interrupt():
        if language and not re.fullmatch("[a-z]{2}", language):
            raise ConfigError(f"--language is two letters, such as en, not {language!r}.")
        settings = _load(config, engine, model)
        transcribing = write_down(
            make_engine(settings.model),
            source,
            language,
            write=_write,
            limits=settings.files.limits(),
        )
        asyncio.run(_loading(settings, transcribing))


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
    _log(logging.WARNING)
    with errors_told(), signals_interrupt():
        settings = _load(config, engine, model)
        testing = selftests.selftest(make_engine(settings.model), _write)
        asyncio.run(_loading(settings, testing))


@app.command("eval")
def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL with audio, reference and, if not by --prompt, prompt.")
    ],
    task: Annotated[
        str, typer.Option(help="asr, translation, classification or qa: how answers are scored.")
    ],
    language: Annotated[str, typer.Option(help="Of the answers, such as en, zh or fr.")] = "en",
    prompt: Annotated[str | None, typer.Option(help="For items that bring none.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Where answers are kept, and a run that ended early is taken up again."),
    ] = None,
    control_tokens: Annotated[
        bool,
        typer.Option(
            "--control-tokens",
            help="What spells a control token in the prompts, such as <|en|>, is that token: as "
            "published for base models, and for them alone.",
        ),
    ] = False,
    at_once: Annotated[int, typer.Option(min=1, help="Items answered at the same time.")] = 8,
    config: ConfigOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
) -> None:
    """Score a model on recordings whose right answers are known."""
    _log(logging.WARNING)
    with errors_told(), signals_interrupt():
        try:
            from assistant.evaluation.report import run_evaluation
        except ImportError as error:
            raise ConfigError(
                f"What scores answers is not installed ({error.name}): pip install -e '.[eval]'"
            ) from error
        settings = _load(config, engine, model)
        evaluating = run_evaluation(
            make_engine(settings.model),
            _whole_name(settings.model.name or settings.model.engine),
            manifest,
            results or manifest.with_suffix(".results.jsonl"),
            task=task,
            language=language,
            prompt=prompt,
            control_tokens=control_tokens,
            at_once=at_once,
        )
        asyncio.run(_loading(settings, evaluating))


def _whole_name(model: str) -> str:
    """A model's name by which it is told from all others, also where it is a folder."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _log(level: int) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("assistant").setLevel(level)


def _check_question(question: str) -> None:
    """Raises ConfigError where it isn't text: bytes beyond UTF-8 arrive as lone surrogates."""
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError("The question can't be read: it is not UTF-8.") from error


def _load(
    config: Path | None,
    engine: str | None,
    model: str | None,
    **sections: dict[str, Any],
) -> Config:
    """The settings of the file with those of the command line over them. Raises ConfigError."""
    chosen = _given(engine=engine, name=model)
    return Config.load(config, {**sections, "model": chosen})


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


async def _loading(settings: Config, work: Coroutine[Any, Any, _T]) -> _T:
    """`work`, which begins by loading the model; by now a signal ends it in order."""
    _say_that_it_loads(settings)
    return await work


def _say_that_it_loads(settings: Config) -> None:
    if settings.model.name:
        # Which may take minutes, or download for longer.
        typer.echo(f"Loading {settings.model.name} ...", err=True)


def _write(text: str) -> None:
    typer.echo(text, nl=False)
