"""The commands about recordings: questions, transcripts, scores."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from assistant.ask import Answer
from assistant.ask import ask as ask_about
from assistant.beginnings import (
    ConfigOption,
    EngineOption,
    ModelOption,
    begin_log,
    load_settings,
    while_it_loads,
)
from assistant.choice import make_engine
from assistant.endings import errors_told, signals_interrupt
from assistant.errors import ConfigError
from assistant.lines import typed_lines
from assistant.transcribe import transcribe as write_down
from audio_io.sources import STDIN, looks_like_source


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
    begin_log(logging.WARNING)
    with errors_told(), signals_interrupt():
        sources, question = _sources_and_question(words)
        if follow_up and STDIN in sources:
            raise ConfigError("The standard input can't be both a recording and what to ask on.")
        settings = load_settings(config, engine, model)
        answers = ask_about(
            make_engine(settings.model),
            sources,
            question,
            instructions=settings.model.instructions,
            limits=settings.files.limits(),
            write=_ignore if as_json else _write,
            follow_ups=typed_lines(sys.stdin.fileno(), _invite) if follow_up else None,
        )
        asyncio.run(while_it_loads(settings, _show_answers(answers, as_json=as_json)))


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


def _check_question(question: str) -> None:
    """Raises ConfigError where it isn't text: bytes beyond UTF-8 arrive as lone surrogates."""
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError("The question can't be read: it is not UTF-8.") from error


def _invite() -> None:
    if sys.stdin.isatty():
        typer.echo("> ", nl=False, err=True)


def _ignore(text: str) -> None:
    """The whole of it comes at the end."""


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
    begin_log(logging.WARNING)
    with errors_told(), signals_interrupt():
        if language and not re.fullmatch("[a-z]{2}", language):
            raise ConfigError(f"--language is two letters, such as en, not {language!r}.")
        settings = load_settings(config, engine, model)
        transcribing = write_down(
            make_engine(settings.model),
            source,
            language,
            write=_write,
            limits=settings.files.limits(),
        )
        asyncio.run(while_it_loads(settings, transcribing))


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
    begin_log(logging.WARNING)
    with errors_told(), signals_interrupt():
        try:
            from assistant.evaluation.examinee import examinee
            from assistant.evaluation.report import run_evaluation
            from assistant.evaluation.results import default_results
        except ImportError as error:
            raise ConfigError(
                f"What scores answers is not installed ({error.name}): pip install -e '.[eval]'"
            ) from error
        settings = load_settings(config, engine, model)
        evaluating = run_evaluation(
            make_engine(settings.model),
            examinee(settings.model),
            manifest,
            results or default_results(manifest),
            task=task,
            language=language,
            prompt=prompt,
            control_tokens=control_tokens,
            at_once=at_once,
        )
        asyncio.run(while_it_loads(settings, evaluating))


def _write(text: str) -> None:
    typer.echo(text, nl=False)
